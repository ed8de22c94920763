"""A tree: four leaves answer, two agents combine two of them each, the root combines those two."""

from stairstream import Sampling, ask, topologies

graph = topologies.tree("smollm2", depth=3, branches=2, sampling=Sampling(temperature=0.8, max_tokens=100))
print(ask("Why is the sky blue?", graph))
