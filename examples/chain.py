"""A chain: each agent goes on with the work of the one before it, as it is written."""

from stairstream import ask, topologies

print(ask("Why is the sky blue?", topologies.chain(["smollm2", "smollm2"])))
