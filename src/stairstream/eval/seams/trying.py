"""Runs free-running answers in each layout and counts their seams; `wait`, which has none, is the baseline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from stairstream.core.graph import Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.core.wording import Wording
from stairstream.eval.intervals import Interval, bootstrap_mean, bootstrap_ratio, wilson
from stairstream.eval.recorded import RecordedPrompt
from stairstream.eval.replay import Replay, Replays, Spoken
from stairstream.eval.seams.counting import (
    breaks_sentence,
    breaks_word,
    end_of_word,
    leaks,
    names_in,
    restarts,
    share_repeated,
    words_of,
)

WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamPlan:
    """A plan of what to evaluate: prompts with their proposals (already cut), and one policy in several layouts.

    `proposers` names the systems whose answers the proposals are, in their order.
    """

    prompts: Sequence[RecordedPrompt]
    proposals: Sequence[Sequence[str]]
    proposers: tuple[str, ...]
    policy: Policy
    layouts: Sequence[AskedLayout]
    sampling: Sampling
    known: frozenset[str]

    @property
    def num_answers(self) -> int:
        """Number of answers in all, those of `wait` included."""
        return len(self.prompts) * (len(self.layouts) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """`hits` of `count`, with the interval of that share.

    The interval of a share of answers is Wilson's. The updates of one answer are not independent, so the interval of a
    share of updates is the bootstrap's over the answers that had any. Where none was hit, or all were, that says
    nothing: then it is Wilson's for none, or all, of those answers, which is wide.
    """

    hits: int
    count: int
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamRow:
    """The seams of one layout. Restarts and broken words and sentences are counted per update, leaks per answer.

    For `wait` the positions are those of the updates in the first layout's answers to the same prompts, moved to the
    end of their word: whatever is found there is chance. `repeated` is the mean share of runs of eight words that
    repeat an earlier run of the same answer.
    """

    engine: str
    layout: str
    num_answers: int
    num_words: float
    updates: float
    restarts: Count
    broken_words: Count
    broken_sentences: Count
    leaks: Count
    repeated: float
    repeated_interval: Interval | None


def vocabulary(prompts: Sequence[RecordedPrompt]) -> frozenset[str]:
    """All words of the prompts and answers of recorded data."""
    return frozenset(
        word for prompt in prompts for text in (prompt.instruction, *prompt.outputs.values()) for word in words_of(text)
    )


async def run_layouts(
    plan: SeamPlan, engine: str, replays: Replays, tell: Callable[[int], None]
) -> tuple[SeamRow, ...]:
    """Runs every prompt in every layout, then `wait`; prompt by prompt, so that a broken-off run covers all layouts."""
    spoken: dict[AskedLayout, list[Spoken]] = {layout: [] for layout in plan.layouts}
    waited: list[Spoken] = []
    for number in range(len(plan.prompts)):
        for layout, answers in spoken.items():
            answers.append(await replays.run(_make_replay(plan, number, plan.policy, layout)))
            tell(1)
        waited.append(await replays.run(_make_replay(plan, number, PRESETS["wait"], None)))
        tell(1)
    rows = [
        _make_row(plan, engine, layout, answers, [one.updates for one in answers]) for layout, answers in spoken.items()
    ]
    first = next(iter(spoken.values()))
    positions = [positions_like(answer.text, other.updates) for answer, other in zip(waited, first, strict=True)]
    return (*rows, _make_row(plan, engine, WAIT, waited, positions))


def positions_like(text: str, positions: Sequence[int]) -> list[int]:
    """Positions of updates of another text, moved to word ends of this one; those past its end are left out."""
    return [end_of_word(text, position) for position in positions if position < len(text)]


def count_updates(hits: Sequence[Sequence[bool]]) -> Count:
    """Counts hits over all updates; `hits` has a list per answer."""
    updated = [one for one in hits if one]
    num_hits, num_updates = sum(sum(one) for one in updated), sum(len(one) for one in updated)
    if 0 < num_hits < num_updates:
        interval = bootstrap_ratio([sum(one) for one in updated], [len(one) for one in updated])
    else:
        interval = wilson(len(updated) if num_hits else 0, len(updated))
    return Count(hits=num_hits, count=num_updates, interval=interval)


def _make_replay(plan: SeamPlan, number: int, policy: Policy, layout: AskedLayout | None) -> Replay:
    return Replay(
        asked=plan.prompts[number].instruction,
        proposals=dict(zip(plan.proposers, plan.proposals[number], strict=True)),
        policy=policy,
        layout=layout,
        sampling=plan.sampling,
    )


def _make_row(
    plan: SeamPlan, engine: str, layout: str, answers: Sequence[Spoken], positions: Sequence[Sequence[int]]
) -> SeamRow:
    restarted: list[list[bool]] = []
    words: list[list[bool]] = []
    sentences: list[list[bool]] = []
    for number, (answer, updated) in enumerate(zip(answers, positions, strict=True)):
        # a word that no recorded text has is known if the answer's own proposals or question have it
        own = " ".join((plan.prompts[number].instruction, *plan.proposals[number]))
        known, names = plan.known | frozenset(words_of(own)), names_in(own)
        inside = [position for position in updated if 0 < position < len(answer.text)]
        restarted.append([restarts(answer.text, position) for position in inside])
        words.append([breaks_word(answer.text, position, known) for position in inside])
        sentences.append([breaks_sentence(answer.text, position, names) for position in inside])
    repeated = [share_repeated(answer.text) for answer in answers]
    wording = _instructions()
    return SeamRow(
        engine=engine,
        layout=layout,
        num_answers=len(answers),
        num_words=fmean(len(words_of(answer.text)) for answer in answers),
        updates=fmean(len(answer.updates) for answer in answers),
        restarts=count_updates(restarted),
        broken_words=count_updates(words),
        broken_sentences=count_updates(sentences),
        leaks=_count_answers([leaks(answer.text, wording) for answer in answers]),
        repeated=fmean(repeated),
        repeated_interval=bootstrap_mean(repeated),
    )


def _instructions() -> str:
    """All instructions that an aggregator gets besides the proposals."""
    wording = Wording()
    return "\n".join((wording.combine, wording.partial, wording.complete, wording.quote, wording.more))


def _count_answers(hits: Sequence[bool]) -> Count:
    return Count(hits=sum(hits), count=len(hits), interval=wilson(sum(hits), len(hits)))
