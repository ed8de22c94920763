"""Robustness: the degree to which an answer follows one proposer that is wrong."""
