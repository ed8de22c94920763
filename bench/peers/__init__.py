"""Other programs for mixtures, on the same fake endpoint as ours, in turns; `python -m bench.peers --help`."""
