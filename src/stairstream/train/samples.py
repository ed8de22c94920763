"""A recorded answer as the token sequences of a torch session that reads its references by a timetable.

The contexts are the sessions' own (`Prompter`); nothing here knows how a prompt looks.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from stairstream.backends.in_process.pieces import Ids, Piece
from stairstream.backends.in_process.prompting import Prompter
from stairstream.backends.in_process.tokens import Tokens
from stairstream.core.graph import Agent
from stairstream.core.messages import Message, question
from stairstream.eval.retention.chunks import chunks_of
from stairstream.eval.retention.spelled import Spelled
from stairstream.eval.retention.timetable import Speed, TimedStep, make_timetable
from stairstream.train.config import TrainedLayout, Updates
from stairstream.train.drawing import Reading
from stairstream.train.inserted import lay_out_insertions
from stairstream.train.sequences import Sample

AGENT = "aggregator"
_SPEED = Speed()
_MARK = "@@answer@@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A question with its proposals and the answer to learn, in tokens; `ends` where the answer was not cut."""

    asked: str
    proposals: Mapping[str, Spelled]
    answer: Spelled
    ends: bool


def lay_out(
    tokens: Tokens, recorded: Recorded, reading: Reading, updates: Updates, dice: random.Random
) -> list[Sample]:
    """The sequences of an answer under a policy: one in `rounds` and `insert`, one per trained update in
    `grouped`."""
    counts = [one.num_tokens for one in recorded.proposals.values()] if reading.policy else []
    steps = make_timetable(reading.policy, counts, recorded.answer.num_tokens, _SPEED).steps
    return lay_out_steps(tokens, recorded, steps, reading.layout, updates, dice)


def lay_out_steps(
    tokens: Tokens,
    recorded: Recorded,
    steps: tuple[TimedStep, ...],
    layout: TrainedLayout,
    updates: Updates,
    dice: random.Random,
) -> list[Sample]:
    """As `lay_out`, by given steps; ones that have no references read nothing."""
    proposals = recorded.proposals if steps[-1].num_read else {}
    agent = Agent(name=AGENT, model=AGENT, reads=tuple(proposals))
    prompter = Prompter(tokens, agent, question(recorded.asked), layout)
    before = (0,) * len(proposals)
    written: list[tuple[list[Piece], Ids]] = []
    for step in steps:
        if chunks := chunks_of(proposals, before, step):
            prompter.read(chunks)
        before = step.num_read
        text, ids = recorded.answer.between(step.start, step.end)
        if ids:
            written.append((prompter.build(), ids))
            prompter.wrote(text, ids)
    end = find_end(tokens) if recorded.ends else ()
    written[-1] = (written[-1][0], (*written[-1][1], *end))
    if layout == "rounds":
        return [_whole(*written[-1])]
    if layout == "insert":
        return [lay_out_insertions(written)]
    return [_last(*written[number]) for number in _choose(written, updates, dice)]


def find_end(tokens: Tokens) -> Ids:
    """The token that ends an answer in the model's template, or else any that ends one; none if there is none."""
    text = tokens.apply_template([Message(role="user", content="?"), Message(role="assistant", content=_MARK)])
    after = tokens.encode(text.rpartition(_MARK)[2], is_template=True)
    if after and after[0] in tokens.end_ids:
        return after[:1]
    return (min(tokens.end_ids),) if tokens.end_ids else ()


def _choose(written: list[tuple[list[Piece], Ids]], updates: Updates, dice: random.Random) -> list[int]:
    """Which updates are learned. One is drawn by its length, so that each word of an answer comes equally often."""
    numbers = list(range(len(written)))
    match updates:
        case "all":
            return numbers
        case "last":
            return numbers[-1:]
        case "one":
            return dice.choices(numbers, [len(ids) for _, ids in written])


def _whole(pieces: list[Piece], ids: Ids) -> Sample:
    """All words of the answer, wherever they stand."""
    found, trained = list[int](), list[bool]()
    for piece in pieces:
        found += piece.ids
        trained += [_is_own(piece)] * len(piece.ids)
    return Sample(ids=(*found, *ids), is_trained=(*trained, *[True] * len(ids)))


def _last(pieces: list[Piece], ids: Ids) -> Sample:
    """The words that this update wrote."""
    front = tuple(token for piece in pieces for token in piece.ids)
    return Sample(ids=front + ids, is_trained=(False,) * len(front) + (True,) * len(ids))


def _is_own(piece: Piece) -> bool:
    return isinstance(piece.key, tuple) and piece.key[0] == "own"
