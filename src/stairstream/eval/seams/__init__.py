"""What updates leave in an answer where it was gone on with: restarts, repeats, broken words and sentences."""
