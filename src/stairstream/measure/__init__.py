"""Measured runs: the same questions answered by several systems, on real endpoints or on cost models."""
