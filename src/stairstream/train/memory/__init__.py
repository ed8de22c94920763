"""The share of a row's activations that is kept, so that no more is computed twice than must be."""

from stairstream.train.memory.planner import Planner, make_simple, open_planner

__all__ = ["Planner", "make_simple", "open_planner"]
