"""A recorded answer as the token sequences of a torch session that reads its references by a timetable.

The contexts are the sessions' own (`Prompter`); nothing here knows how a prompt looks.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

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
from stairstream.train.sequences import Sample, Teaching

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An answer that the network is to write itself, reading as the recorded one did."""

    recorded: Recorded
    reading: Reading


Written = list[tuple[list[Piece], Ids]]
"""The contexts of an answer's steps, and what each of them wrote."""
Say = Callable[[TimedStep, list[Piece]], tuple[str, Ids]]
"""The words that a step writes in a context: text and ids."""


def lay_out(
    tokens: Tokens, recorded: Recorded, reading: Reading, updates: Updates, dice: random.Random, *, taught: bool = False
) -> list[Sample]:
    """The sequences of an answer under a policy: one in `rounds` and `insert`, one per trained update in
    `grouped`. `taught`: each with what a teacher is to judge."""
    steps = plan_steps(recorded, reading)
    return lay_out_steps(tokens, recorded, steps, reading.layout, updates, dice, taught=taught)


def plan_steps(recorded: Recorded, reading: Reading) -> tuple[TimedStep, ...]:
    """When an answer of this length is written by which references."""
    counts = [one.num_tokens for one in recorded.proposals.values()] if reading.policy else []
    return make_timetable(reading.policy, counts, recorded.answer.num_tokens, _SPEED).steps


def lay_out_steps(
    tokens: Tokens,
    recorded: Recorded,
    steps: tuple[TimedStep, ...],
    layout: TrainedLayout,
    updates: Updates,
    dice: random.Random,
    *,
    taught: bool = False,
) -> list[Sample]:
    """As `lay_out`, by given steps; ones that have no references read nothing."""
    written = _write(tokens, recorded, steps, layout, _recite(recorded))
    end = find_end(tokens) if recorded.ends else ()
    written[-1] = (written[-1][0], (*written[-1][1], *end))
    answer = tuple(token for _, ids in written for token in ids)

    def teach(sample: Sample, start: int) -> Sample:
        return add_teaching(tokens, recorded, sample, answer, start) if taught else sample

    if layout == "rounds":
        return [teach(_whole(*written[-1]), 0)]
    if layout == "insert":
        return [teach(lay_out_insertions(written), 0)]
    starts = list(accumulate((len(ids) for _, ids in written), initial=0))
    return [teach(_last(*written[number]), starts[number]) for number in _choose(written, updates, dice)]


def lay_out_own(tokens: Tokens, draft: Draft, say: Say) -> Sample:
    """The sequence in `rounds` of an answer that is written now, a step after the other, with its teaching.

    What ends it, if anything, is said in its last step.
    """
    recorded = draft.recorded
    written = _write(tokens, recorded, plan_steps(recorded, draft.reading), "rounds", say)
    answer = tuple(token for _, ids in written for token in ids)
    sample = add_teaching(tokens, recorded, _whole(*written[-1]), answer, 0)
    assert sample.teaching is not None
    return replace(sample, teaching=replace(sample.teaching, is_own=True))


def add_teaching(tokens: Tokens, recorded: Recorded, sample: Sample, answer: Ids, start: int) -> Sample:
    """The sample with the same answer after everything was read; it learns what comes after the answer's first `start`
    tokens."""
    ends = tuple(one.num_tokens for one in recorded.proposals.values())
    step = TimedStep(start=0, end=len(answer), num_read=ends, is_final=(True,) * len(ends))
    ((pieces, _),) = _write(tokens, recorded, (step,), "grouped", lambda *_: ("", answer))
    front = tuple(token for piece in pieces for token in piece.ids)
    first, count = len(front) + start - 1, len(sample.learned)
    assert tuple(token for _, token in sample.learned) == answer[start : start + count]
    return replace(sample, teaching=Teaching(ids=front + answer, before=tuple(range(first, first + count))))


def _recite(recorded: Recorded) -> Say:
    """Says what was recorded."""
    return lambda step, _: recorded.answer.between(step.start, step.end)


def _write(tokens: Tokens, recorded: Recorded, steps: Sequence[TimedStep], layout: TrainedLayout, say: Say) -> Written:
    proposals = recorded.proposals if steps[-1].num_read else {}
    agent = Agent(name=AGENT, model=AGENT, reads=tuple(proposals))
    prompter = Prompter(tokens, agent, question(recorded.asked), layout)
    before = (0,) * len(proposals)
    written: Written = []
    for step in steps:
        if chunks := chunks_of(proposals, before, step):
            prompter.read(chunks)
        before = step.num_read
        pieces = prompter.build()
        text, ids = say(step, pieces)
        if ids:
            written.append((pieces, ids))
            prompter.wrote(text, ids)
    return written


def find_end(tokens: Tokens) -> Ids:
    """The token that ends an answer in the model's template, or else any that ends one; none if there is none."""
    text = tokens.apply_template([Message(role="user", content="?"), Message(role="assistant", content=_MARK)])
    after = tokens.encode(text.rpartition(_MARK)[2], is_template=True)
    if after and after[0] in tokens.end_ids:
        return after[:1]
    return (min(tokens.end_ids),) if tokens.end_ids else ()


def _choose(written: Written, updates: Updates, dice: random.Random) -> list[int]:
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
