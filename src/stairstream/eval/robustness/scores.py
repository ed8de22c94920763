"""Results of teacher forcing with one wrong proposal; `forced` computes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from stairstream.eval.intervals import Interval, bootstrap_mean
from stairstream.eval.retention.scores import Setup
from stairstream.eval.robustness.plan import RobustnessPlan, Wrong, changed_by


class Nats(msgspec.Struct, frozen=True, kw_only=True):
    """Negative log-likelihood per token of the reference and of the planted words, as answers, with right proposals
    and with the wrong one among them."""

    reference_right: float
    reference_wrong: float
    planted_right: float
    planted_wrong: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedRow:
    """One policy and one way to be wrong: nats per token that the reference loses and the planted words gain, over the
    prompts that it changes; `num_unchanged` are left out."""

    policy: str
    layout: str
    wrong: Wrong
    num_prompts: int
    num_unchanged: int
    lost: float
    lost_interval: Interval | None
    gained: float
    gained_interval: Interval | None


def count_forced(plan: RobustnessPlan) -> int:
    """Number of scores in all."""
    return sum(len(changed_by(plan, one)) for one in plan.wrongs) * len(plan.setups)


def make_row(setup: Setup, wrong: Wrong, nats: Sequence[Nats], num_unchanged: int) -> ForcedRow:
    """The means over the prompts."""
    lost = [one.reference_wrong - one.reference_right for one in nats]
    gained = [one.planted_right - one.planted_wrong for one in nats]
    return ForcedRow(
        policy=setup.name,
        layout=setup.layout,
        wrong=wrong,
        num_prompts=len(nats),
        num_unchanged=num_unchanged,
        lost=sum(lost) / len(nats),
        lost_interval=bootstrap_mean(lost),
        gained=sum(gained) / len(nats),
        gained_interval=bootstrap_mean(gained),
    )
