"""Training an aggregator to read a staircase: recorded answers as sequences, and the steps that learn from them."""
