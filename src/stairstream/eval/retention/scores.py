"""Scores of a prompt under a setup, and their summary over many prompts: retention, with its interval."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from stairstream.core.policy import Policy
from stairstream.core.session import AskedLayout
from stairstream.eval.intervals import Interval

RESAMPLES = 2000
SINGLE, WAIT = "single", "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A policy with its name, in a layout."""

    name: str
    policy: Policy
    layout: AskedLayout


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one prompt under one setup. Tokens are of the texts as cut, times of the whole texts."""

    nll: float
    num_tokens: int
    sent_tokens: int
    computed_tokens: int
    steps: int
    seen_share: float
    first_token_s: float
    total_s: float
    longest_gap_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRow:
    """The result of a setup over all prompts. NLL is in nats per token; tokens, times and steps are means.

    `retention` is None where waiting gives nothing over the single model; shares are of `wait`.
    """

    policy: str
    layout: AskedLayout | None
    numbers: Policy | None
    num_prompts: int
    nll: float
    retention: float | None
    interval: Interval | None
    first_token_s: float
    first_token_share: float
    total_s: float
    total_share: float
    longest_gap_s: float
    seen_share: float
    steps: float
    sent_tokens: float
    computed_tokens: float


def retention_of(singles: Sequence[float], ones: Sequence[float], waits: Sequence[float]) -> float | None:
    """(sum single - sum one) / (sum single - sum wait) of negative log-likelihoods; None if waiting gains nothing."""
    gain = sum(singles) - sum(waits)
    return (sum(singles) - sum(ones)) / gain if gain > 0 else None


def interval_of(singles: Sequence[float], ones: Sequence[float], waits: Sequence[float]) -> Interval | None:
    """95 % interval of the retention, by the percentile bootstrap over the prompts; None for fewer than two prompts."""
    count = len(ones)
    if count < 2:
        return None
    dice, found = random.Random(0), list[float]()
    for _ in range(RESAMPLES):
        drawn = [dice.randrange(count) for _ in range(count)]
        one = retention_of(*([values[i] for i in drawn] for values in (singles, ones, waits)))
        if one is not None:
            found.append(one)
    if len(found) < RESAMPLES / 2:
        return None
    found.sort()
    return Interval(low=found[int(0.025 * len(found))], high=found[int(0.975 * len(found))])


def make_rows(
    singles: Sequence[Score], waits: Sequence[Score], scores: Mapping[Setup, Sequence[Score]]
) -> tuple[RetentionRow, ...]:
    """Rows of the single model, of waiting, then of the setups in their order; all on the same prompts."""
    rows = [_make_row(SINGLE, None, singles, singles, waits), _make_row(WAIT, None, waits, singles, waits)]
    rows += [_make_row(setup.name, setup, own, singles, waits) for setup, own in scores.items()]
    return tuple(rows)


def _make_row(
    name: str, setup: Setup | None, own: Sequence[Score], singles: Sequence[Score], waits: Sequence[Score]
) -> RetentionRow:
    nlls = [[one.nll for one in scores] for scores in (singles, own, waits)]
    first_s, total_s = _mean([one.first_token_s for one in own]), _mean([one.total_s for one in own])
    return RetentionRow(
        policy=name,
        layout=setup.layout if setup else "grouped" if name == WAIT else None,
        numbers=setup.policy if setup else None,
        num_prompts=len(own),
        nll=sum(nlls[1]) / sum(one.num_tokens for one in own),
        retention=retention_of(*nlls),
        interval=interval_of(*nlls) if setup else None,
        first_token_s=first_s,
        first_token_share=first_s / _mean([one.first_token_s for one in waits]),
        total_s=total_s,
        total_share=total_s / _mean([one.total_s for one in waits]),
        longest_gap_s=_mean([one.longest_gap_s for one in own]),
        seen_share=_mean([one.seen_share for one in own]),
        steps=_mean([one.steps for one in own]),
        sent_tokens=_mean([one.sent_tokens for one in own]),
        computed_tokens=_mean([one.computed_tokens for one in own]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
