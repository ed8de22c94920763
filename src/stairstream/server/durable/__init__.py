"""Durable runs: their journals in a database, the leases on them, and processes that take each other over."""
