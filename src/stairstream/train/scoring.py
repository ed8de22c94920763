"""Retention on prompts that are never trained on, while a run continues."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stairstream.backends.in_process.tokens import Tokens
from stairstream.core.policy import PRESETS
from stairstream.eval.recorded import RecordedPrompt, iterate_rows
from stairstream.eval.retention.scores import retention_of
from stairstream.train.config import Held, TrainConfig
from stairstream.train.data import Row, Split, record
from stairstream.train.drawing import Reading
from stairstream.train.processes import Processes
from stairstream.train.samples import Recorded, lay_out
from stairstream.train.step import cast, nll_of
from stairstream.train.teaching import undisturbed

_WAIT = Reading(policy=PRESETS["wait"], layout="grouped")
_ALONE = Reading(policy=None, layout="grouped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The staircase on held-out prompts: nats per token of the references, and what it keeps of what waiting gives, by
    the same weights; None where waiting gives nothing."""

    nll: float
    retention: float | None


class Scorer:
    """Scores a network as it is trained, always on the same prompts and by the same policy."""

    def __init__(self, config: TrainConfig, held: Held, split: Split, tokens: Tokens) -> None:
        stairs = Reading(policy=replace(PRESETS["balanced"], first_chunk=held.first_chunk), layout=held.layout)
        readings = (_ALONE, stairs, _WAIT)
        prompts = (one for one in iterate_rows(Path(config.data), RecordedPrompt) if one.id in split.held_out)
        recorded = [record(config, tokens, prompt) for prompt, _ in zip(prompts, range(held.prompts), strict=False)]
        self._rows = [[_lay(tokens, one, reading) for one in recorded] for reading in readings]
        self._config = config

    def score(self, network: Any, processes: Processes) -> Scored:
        """The score of a network; every rank computes all of it, and has that of rank 0."""
        with torch.no_grad(), undisturbed(network), cast(processes, self._config.computes_in):
            found = [[self._sum(network, rows, processes) for rows in kind] for kind in self._rows]
        singles, stairs, waits = found
        count = sum(row.num_trained for rows in self._rows[1] for row in rows)
        nll, retention = processes.least(sum(stairs) / count), retention_of(singles, stairs, waits)
        return Scored(nll=nll, retention=retention)

    def _sum(self, network: Any, rows: list[Row], processes: Processes) -> float:
        even = (row.make_divisible(processes.tp_size) for row in rows)
        return sum(float(nll_of(network, row, processes.device).detach()) for row in even)


def _lay(tokens: Tokens, recorded: Recorded, reading: Reading) -> list[Row]:
    """An answer as sequences of which each is computed by itself; all its words are scored once."""
    dice: Any = None  # nothing is drawn where all updates are wanted
    return [Row(samples=(sample,)) for sample in lay_out(tokens, recorded, reading, "all", dice)]
