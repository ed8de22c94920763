"""An outlook on a stage, from its first batches: how many train steps, and how large its rows."""

import math
from dataclasses import dataclass

from stairstream.train.config import Stage
from stairstream.train.data import Batch, Cursor, Stream

_LOOKED_AT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A stage with some of its batches; `is_exact`: the number of steps is no estimate."""

    stage: Stage
    steps: int
    is_exact: bool
    batches: tuple[Batch, ...]

    @property
    def most_tokens(self) -> int:
        """Of a row that was seen, or that a teacher reads."""
        return max(max(row.num_tokens, row.num_taught) for batch in self.batches for row in batch.rows)

    @property
    def most_trained(self) -> int:
        """Learned tokens of a row that was seen."""
        return max(row.num_trained for batch in self.batches for row in batch.rows)

    @property
    def tokens(self) -> float:
        """Of a train step, on average."""
        return sum(batch.num_tokens for batch in self.batches) / len(self.batches)

    @property
    def trained(self) -> float:
        """Learned tokens of a train step, on average."""
        return sum(batch.num_trained for batch in self.batches) / len(self.batches)


def look_ahead(stream: Stream, stage: Stage) -> Outlook:
    """Lay out the first batches of a stage. Raises ConfigError if nothing in it can be learned."""
    batches, progress = list[Batch](), 0.0
    for batch in stream.batches(Cursor()):
        batches.append(batch)
        progress = stream.progress(batch.after, len(batches))
        if progress >= 1 or (len(batches) >= _LOOKED_AT and progress > 0):
            break
    is_exact = stage.steps is not None or progress >= 1
    steps = stage.steps or math.ceil(len(batches) / progress)
    return Outlook(stage=stage, steps=steps, is_exact=is_exact, batches=tuple(batches))
