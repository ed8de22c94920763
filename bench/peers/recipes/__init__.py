"""How each peer is asked: run by the Python of its own environment, in which nothing of ours but this is imported."""
