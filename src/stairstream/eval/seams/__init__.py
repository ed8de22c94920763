"""Seams: traces of updates in an answer, such as restarts, repeats, broken words and broken sentences."""
