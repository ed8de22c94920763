"""The frontier of a sweep, and one recommendation with its reason."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stairstream.core.policy import PRESETS, Policy
from stairstream.core.worth import SHARE
from stairstream.plan.sweeping import SINGLE, WAIT, Outcome

MOST_PROMPT_TOKENS = 3.0
"""A recommended policy sends at most so many times the prompt tokens of `wait`, unless another bound is given."""

NOTICED_GAP_S = 0.5
"""A pause below this is not noticed beside another one; so `frontier` and advice take such pauses for equal."""

_SAME = 0.1
"""Times and tokens that differ by less than this share, and shares that differ by less than this, are the same."""

KEPT_QUALITY = 0.95
"""With retention known, a recommended policy keeps at least this share of what waiting gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The candidate to take, and why in sentences."""

    chosen: Outcome
    reasons: tuple[str, ...]


def with_quality(outcomes: Sequence[Outcome], retention: Mapping[Policy, float]) -> list[Outcome]:
    """The outcomes with the retention that was measured for their policies; `wait` keeps all."""
    known = {PRESETS[WAIT]: 1.0, **retention}
    return [replace(one, quality=known.get(one.policy)) if one.policy is not None else one for one in outcomes]


def frontier(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes that no other is at least as good as in everything, and better in something; soonest first.

    Of those that are the same in everything it is the first one, and `wait` comes before the others.
    """
    rows = sorted((one for one in outcomes if one.name != SINGLE), key=lambda one: one.name != WAIT)
    kept = {_numbers(one): one for one in reversed(rows) if not any(_beats(other, one) for other in rows)}
    return sorted(kept.values(), key=lambda one: (one.first_token_s, one.total_s))


def _beats(one: Outcome, other: Outcome) -> bool:
    mine, its = _numbers(one), _numbers(other)
    return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))


def _numbers(one: Outcome) -> tuple[float, ...]:
    """Smaller is better; what differs by less than _SAME is the same, so that the frontier is short."""
    unseen = 1 - (one.seen_share if one.seen_share is not None else 1)
    gap_s = max(NOTICED_GAP_S, one.longest_gap_s)
    amounts = (one.first_token_s, gap_s, one.total_s, one.prompt_tokens)
    shares = (unseen, -(one.quality or 0))
    return (*(round(math.log(max(1e-6, number), 1 + _SAME)) for number in amounts), *(round(n / _SAME) for n in shares))


def advise(outcomes: Sequence[Outcome], most_prompt_tokens: float = MOST_PROMPT_TOKENS) -> Advice:
    """The candidate with the best trade of an early first token for what each word has seen, within bounds.

    The bounds: a total of at most that of `wait` and 5 %, prompt tokens of at most `most_prompt_tokens` times, pauses
    no longer than the silence that they save, and, where retention is known, KEPT_QUALITY of it.
    """
    by_name = {one.name: one for one in outcomes}
    wait, alone = by_name[WAIT], by_name[SINGLE]
    fitting = [one for one in outcomes if one.name not in (SINGLE, WAIT) and _fits(one, wait, most_prompt_tokens)]
    gaining = [one for one in fitting if one.first_token_s <= (1 - SHARE) * wait.first_token_s]
    if not gaining:
        return Advice(chosen=wait, reasons=(_why_wait(outcomes, fitting, wait, most_prompt_tokens), _of_single(alone)))
    chosen = max(gaining, key=lambda one: (_worth(one, wait), -one.prompt_tokens))
    return Advice(chosen=chosen, reasons=(*_why(chosen, wait), _of_single(alone)))


def _fits(one: Outcome, wait: Outcome, most_prompt_tokens: float) -> bool:
    return (
        one.total_s <= (1 + SHARE) * wait.total_s
        and one.prompt_tokens <= most_prompt_tokens * wait.prompt_tokens
        and one.longest_gap_s <= max(NOTICED_GAP_S, wait.first_token_s - one.first_token_s)
        and (one.quality is None or one.quality >= KEPT_QUALITY)
    )


def _worth(one: Outcome, wait: Outcome) -> float:
    """The product of three shares: of the wait that is spared, of the references seen, and of a fluent answer."""
    spared = 1 - one.first_token_s / wait.first_token_s
    fluent = 1 / (1 + max(0.0, one.longest_gap_s - NOTICED_GAP_S) / NOTICED_GAP_S)
    return spared * (one.seen_share or 0.0) * math.sqrt(fluent)


def _why(one: Outcome, wait: Outcome) -> tuple[str, ...]:
    times = wait.first_token_s / one.first_token_s
    seen = f"{one.seen_share:.0%} of the references are known per word" if one.seen_share is not None else ""
    return (
        f"The first token comes {times:.1f}x sooner than with wait: {one.first_token_s:.2f} s instead of "
        f"{wait.first_token_s:.2f} s, the end after {one.total_s:.2f} s instead of {wait.total_s:.2f} s.",
        f"It sends {one.prompt_tokens / wait.prompt_tokens:.1f} times the prompt tokens, its longest pause is "
        f"{one.longest_gap_s:.2f} s, and {seen}.",
        *(() if one.quality is None else (f"It keeps {one.quality:.0%} of what waiting gives, as measured.",)),
    )


def _why_wait(outcomes: Sequence[Outcome], fitting: Sequence[Outcome], wait: Outcome, most: float) -> str:
    soonest = min((one for one in outcomes if one.name not in (SINGLE, WAIT)), key=lambda one: one.first_token_s)
    if soonest.first_token_s > (1 - SHARE) * wait.first_token_s:
        return (
            f"Use wait: no policy has a first token that is more than {SHARE:.0%} sooner (at best "
            f"{soonest.first_token_s:.2f} s, {wait.first_token_s:.2f} s with wait): the references end within about "
            "one call."
        )
    why = f"a total within {SHARE:.0%}, prompt tokens within {most:g} times, and pauses shorter than what they save"
    return f"Use wait: none of the policies that begin sooner ({soonest.name}, say) keeps {why}."


def _of_single(alone: Outcome) -> str:
    return (
        f"The answering model alone has its first token after {alone.first_token_s:.2f} s and ends after "
        f"{alone.total_s:.2f} s: where its answers are as good, use it alone."
    )


def as_yaml(policy: Policy) -> str:
    """The key of a pipeline that asks for a policy."""
    for name, preset in PRESETS.items():
        if policy == preset:
            return f"policy: {name}"
    numbers = ("first_chunk", "growth", "quorum", "patience_s", "lead", "slope")
    return "policy: {" + ", ".join(f"{name}: {_number(getattr(policy, name))}" for name in numbers) + "}"


def _number(value: object) -> str:
    if isinstance(value, float):
        return ".inf" if value == math.inf else f"{value:g}"
    return str(value)
