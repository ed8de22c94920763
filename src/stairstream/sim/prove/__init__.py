"""Proof: the real engine in virtual time, fuzzed by seeds, with invariants checked after each run.

A seed is drawn to a `Case`, played, and judged; one that fails is shrunk. docs/proof.md says what is proven.
"""
