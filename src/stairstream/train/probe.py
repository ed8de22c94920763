"""Rows that teach nothing, by which a network's costs are measured."""

from typing import Any

import torch
from torch import Tensor

from stairstream.train.config import Precision
from stairstream.train.data import Row
from stairstream.train.memory.measuring import Run
from stairstream.train.processes import Processes
from stairstream.train.sequences import Sample
from stairstream.train.step import cast, nll_of


def make_row(num_tokens: int) -> Row:
    """A row of two samples, which need a mask as in most rows; the last token of each is learned."""
    half = num_tokens // 2
    return Row(samples=(_make_sample(half), _make_sample(num_tokens - half)))


def make_run(network: Any, device: torch.device, precision: Precision) -> Run:
    """Computes the loss of such a row as training does, on a network that is whole."""
    alone = Processes(device=device)  # nothing else casts its weights

    def run(num_tokens: int) -> Tensor:
        with cast(alone, precision):
            return nll_of(network, make_row(num_tokens), device)

    return run


def _make_sample(num_tokens: int) -> Sample:
    return Sample(ids=(0,) * num_tokens, is_trained=(False,) * (num_tokens - 1) + (True,))
