"""One model answers three times and combines its answers itself."""

from stairstream import ask, topologies

graph = topologies.self_mixture("smollm2", samples=3, temperatures=[0.7, 0.9, 1.1])
print(ask("Why is the sky blue?", graph))
