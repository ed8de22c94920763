"""Turns a step of a timetable into the chunks of recorded proposals that a session reads at that step."""

from collections.abc import Mapping, Sequence

from stairstream.core.session import Chunk
from stairstream.eval.retention.spelled import Spelled
from stairstream.eval.retention.timetable import TimedStep


def chunks_of(proposals: Mapping[str, Spelled], before: Sequence[int], step: TimedStep) -> list[Chunk]:
    """The new chunks at a step, `before` being the tokens of each proposal read so far; an end is a chunk too."""
    chunks = []
    for (name, proposal), start, end, is_final in zip(
        proposals.items(), before, step.num_read, step.is_final, strict=True
    ):
        text, ids = proposal.between(start, end)
        if text or is_final:
            chunks.append(Chunk(agent=name, text=text, ids=ids, is_final=is_final))
    return chunks
