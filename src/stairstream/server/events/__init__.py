"""/v1/runs: the protocol of our own, every event of a run as it happens."""
