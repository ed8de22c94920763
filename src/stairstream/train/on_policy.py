"""Answers that the network writes itself while it is trained, under references that grow, for its teacher to judge."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache

from stairstream.backends.in_process.pieces import Ids, Piece, join
from stairstream.backends.in_process.tokens import Tokens
from stairstream.eval.retention.timetable import TimedStep
from stairstream.train.config import Precision
from stairstream.train.data import Batch, Row
from stairstream.train.processes import Processes
from stairstream.train.samples import lay_out_own, plan_steps
from stairstream.train.step import cast
from stairstream.train.teaching import undisturbed

_TEMPERATURE = 0.8
"""As the torch backend's where nothing else is said."""


def write_drafts(network: Any, tokens: Tokens, batch: Batch, processes: Processes, precision: Precision) -> Batch:
    """The batch with answers of the network's own in place of drafts. The same weights and seed write the same."""
    if not any(row.drafts for row in batch.rows):
        return batch
    plain = torch.compiler.set_stance("force_eager")  # layers that are compiled are so for rows, not for a word each
    with torch.no_grad(), cast(processes, precision), undisturbed(network), plain:
        rows = tuple(_write_row(network, tokens, row, processes.device) for row in batch.rows)
    return replace(batch, rows=rows)


def _write_row(network: Any, tokens: Tokens, row: Row, device: torch.device) -> Row:
    samples = list(row.samples)
    for number, draft in row.drafts.items():
        num_steps = len(plan_steps(draft.recorded, draft.reading))
        say = _Writer(network, tokens, num_steps, ends=draft.recorded.ends, device=device)
        samples[number] = lay_out_own(tokens, draft, say).cut(len(row.samples[number].ids))
    return Row(samples=tuple(samples))


class _Writer:
    """Writes an answer, step by step, in a context that only grows.

    It ends in its last step at the earliest: until then there is more to read.
    """

    def __init__(self, network: Any, tokens: Tokens, num_steps: int, *, ends: bool, device: torch.device) -> None:
        self._network = network
        self._tokens = tokens
        self._ends = torch.tensor(sorted(tokens.end_ids), dtype=torch.long, device=device)
        self._steps_left = num_steps
        self._may_end = ends
        self._device = device
        self._cache = {_name_cache(network): DynamicCache()}
        self._num_seen = 0

    def __call__(self, step: TimedStep, pieces: Sequence[Piece]) -> tuple[str, Ids]:
        """The next ids: as many tokens as the recorded answer had in this step, or fewer if it ends."""
        self._steps_left -= 1
        new, found = list(join(pieces)[self._num_seen :]), list[int]()
        while len(found) < step.end - step.start:
            token = self._choose(new)
            found.append(token)
            new = [token]
            if token in self._tokens.end_ids:
                break
        return self._tokens.decode(found), tuple(found)

    def _choose(self, new: Sequence[int]) -> int:
        end = self._num_seen + len(new)
        logits_V = self._network(
            input_ids=torch.tensor([new], device=self._device),
            position_ids=torch.arange(self._num_seen, end, device=self._device)[None],
            use_cache=True,
            logits_to_keep=1,
            **self._cache,
        ).logits[0, -1]
        self._num_seen = end
        if self._steps_left or not self._may_end:
            logits_V = logits_V.index_fill(0, self._ends, -torch.inf)
        return int(torch.multinomial((logits_V.float() / _TEMPERATURE).softmax(-1), 1))


def _name_cache(network: Any) -> str:
    """The name by which a forward pass takes a cache; transformers has renamed it."""
    return "cache" if "cache" in inspect.signature(type(network).forward).parameters else "past_key_values"
