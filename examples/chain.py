"""A chain: each agent continues the work of the one before it while that is still being written."""

from stairstream import ask, topologies

print(ask("Why is the sky blue?", topologies.chain(["smollm2", "smollm2"])))
