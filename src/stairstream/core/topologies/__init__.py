"""Ready-made graphs: pure functions from names of models to a Graph."""

from stairstream.core.topologies.councils import council
from stairstream.core.topologies.debates import debate
from stairstream.core.topologies.mixtures import mixture, self_mixture, single
from stairstream.core.topologies.steps import chain, tree, work_in_turn

__all__ = ["chain", "council", "debate", "mixture", "self_mixture", "single", "tree", "work_in_turn"]
