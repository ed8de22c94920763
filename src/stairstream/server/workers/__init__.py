"""Several processes that serve on one socket, and the one that starts, watches and replaces them."""
