"""One model as it is: the baseline of every comparison."""

from stairstream import ask, topologies

print(ask("Why is the sky blue?", topologies.single("smollm2")))
