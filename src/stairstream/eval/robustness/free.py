"""Free-running answers: the aggregator writes its own words and reads replayed proposals, one of which is wrong."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from stairstream.eval.intervals import Interval, bootstrap_mean
from stairstream.eval.replay import Replay, Replays, Spoken
from stairstream.eval.retention.scores import Setup
from stairstream.eval.robustness.plan import (
    RobustnessPlan,
    Wrong,
    changed_by,
    proposals_of,
    speeds_of,
    spoil,
    wrong_index,
)

GRAM = 4
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """The share of an answer that only the planted words have: with them, without them (chance), and the difference
    with its interval over the prompts."""

    planted: float
    chance: float
    difference: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeRow:
    """One policy and one way to be wrong, over the prompts that it changes; `num_unchanged` are left out."""

    policy: str
    layout: str
    wrong: Wrong
    num_prompts: int
    num_unchanged: int
    words: Followed
    grams: Followed
    first_token_s: float
    updates: float


def count_runs(plan: RobustnessPlan) -> int:
    """Number of answers in all."""
    return (len(plan.prompts) + sum(len(changed_by(plan, one)) for one in plan.wrongs)) * len(plan.setups)


async def run_free(plan: RobustnessPlan, replays: Replays, tell: Callable[[int], None]) -> tuple[FreeRow, ...]:
    """Runs every prompt under every setup, right and in each wrong way that changes it; each way must change one."""
    changed = {one: changed_by(plan, one) for one in plan.wrongs}
    right: dict[Setup, list[Spoken]] = {setup: [] for setup in plan.setups}
    wrong: dict[tuple[Setup, Wrong], dict[int, Spoken]] = {
        (setup, one): {} for setup in plan.setups for one in plan.wrongs
    }
    for number in range(len(plan.prompts)):
        for setup in plan.setups:
            right[setup].append(await replays.run(make_replay(plan, number, setup, None)))
            tell(1)
            for one in plan.wrongs:
                if number in changed[one]:
                    wrong[setup, one][number] = await replays.run(make_replay(plan, number, setup, one))
                    tell(1)
    return tuple(_make_row(plan, setup, one, right[setup], spoken) for (setup, one), spoken in wrong.items())


def make_replay(plan: RobustnessPlan, number: int, setup: Setup, wrong: Wrong | None) -> Replay:
    """A replay of a prompt's proposals at their speeds; `wrong` None: all of them right."""
    texts, names = proposals_of(plan, number), plan.proposers
    index = wrong_index(number, len(names))
    if wrong is not None:
        texts[index] = spoil(plan, number, wrong).text
    return Replay(
        asked=plan.prompts[number].instruction,
        proposals=dict(zip(names, texts, strict=True)),
        policy=setup.policy,
        layout=setup.layout,
        sampling=plan.sampling,
        speeds=dict(zip(names, speeds_of(index, len(names)), strict=True)),
    )


def _make_row(
    plan: RobustnessPlan, setup: Setup, wrong: Wrong, right: Sequence[Spoken], spoken: Mapping[int, Spoken]
) -> FreeRow:
    return FreeRow(
        policy=setup.name,
        layout=setup.layout,
        wrong=wrong,
        num_prompts=len(spoken),
        num_unchanged=len(plan.prompts) - len(spoken),
        words=_followed(plan, wrong, right, spoken, 1),
        grams=_followed(plan, wrong, right, spoken, GRAM),
        first_token_s=fmean(one.first_token_s or 0.0 for one in spoken.values()),
        updates=fmean(len(one.updates) for one in spoken.values()),
    )


def _followed(
    plan: RobustnessPlan, wrong: Wrong, right: Sequence[Spoken], spoken: Mapping[int, Spoken], size: int
) -> Followed:
    planted, chance = [], []
    for number, own in spoken.items():
        words = spoil(plan, number, wrong).planted
        others = [*proposals_of(plan, number), plan.prompts[number].instruction]
        planted.append(share_only_from(own.text, words, others, size))
        chance.append(share_only_from(right[number].text, words, others, size))
    gaps = [one - its for one, its in zip(planted, chance, strict=True)]
    return Followed(planted=fmean(planted), chance=fmean(chance), difference=fmean(gaps), interval=bootstrap_mean(gaps))


def share_only_from(answer: str, planted: str, others: Sequence[str], size: int) -> float:
    """The share of the answer's runs of `size` words that are in `planted` and in no other; 0 without runs."""
    runs = _grams_of(_words_of(answer), size)
    only = set(_grams_of(_words_of(planted), size))
    for text in others:
        only.difference_update(_grams_of(_words_of(text), size))
    return sum(run in only for run in runs) / len(runs) if runs else 0.0


def _words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams_of(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Every run of `size` words, in order."""
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
