"""What a step reads of recorded proposals: the tokens between two places of a timetable, as a session's chunks."""

from collections.abc import Mapping, Sequence

from stairstream.core.session import Chunk
from stairstream.eval.retention.spelled import Spelled
from stairstream.eval.retention.timetable import TimedStep


def chunks_of(proposals: Mapping[str, Spelled], before: Sequence[int], step: TimedStep) -> list[Chunk]:
    """What is new at a step, if so many tokens of each proposal had been read before; an end is news too."""
    chunks = []
    for (name, proposal), start, end, is_final in zip(
        proposals.items(), before, step.num_read, step.is_final, strict=True
    ):
        text, ids = proposal.between(start, end)
        if text or is_final:
            chunks.append(Chunk(agent=name, text=text, ids=ids, is_final=is_final))
    return chunks
