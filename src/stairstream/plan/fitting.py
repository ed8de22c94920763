"""The cost model that follows from the calls of a calibration. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from stairstream.core.errors import BackendError
from stairstream.plan.calling import PLAIN_TOKENS, Call
from stairstream.plan.endpoints import EndpointCosts

SLOWED = 1.5
"""An answer that takes so many times as long beside a prompt, or more, shares a processor with it."""
_LEAST_TOKENS = 8
"""Of each answer, in the time in which all of them are written: fewer say nothing of their speed."""


@dataclass(slots=True)
class Found:
    """The calls of a calibration; None for those that failed.

    A plain one, short prompts, long ones, each of them again, so many short ones at once, and an answer with a long
    prompt beside it.
    """

    plain: Call | None = None
    short: list[Call | None] = field(default_factory=list)
    fresh: list[Call | None] = field(default_factory=list)
    again: list[Call | None] = field(default_factory=list)
    together: dict[int, list[Sequence[Call | None]]] = field(default_factory=dict)
    beside: list[tuple[Call | None, Call | None]] = field(default_factory=list)


def known(calls: Sequence[Call | None]) -> list[Call]:
    """Those that brought something."""
    return [one for one in calls if one is not None and one.at_s]


def fit(found: Found, failures: float) -> EndpointCosts:
    """The numbers: medians. Raises BackendError where nothing can be said of the speed."""
    short, fresh, again = known(found.short), known(found.fresh), known(found.again)
    first_s, prompts = _middle(short or fresh)
    call_s, prefill_s, prefill_context_s = _prompts(short, fresh)
    cached = [(one.cached_tokens, one.first_s) for one in again if one.cached_tokens * 2 > one.prompt_tokens]
    read_s = _read_s(short, [*fresh, *again])
    base = statistics.median(_context(one) for one in short or fresh) * read_s
    speeds = {1: _speed(short or fresh)}
    speeds |= {load: statistics.median(own) for load, calls in found.together.items() if (own := speeds_of(calls))}
    long_token_s = prefill_s + prefill_context_s * _middle(fresh or short)[1] / 2
    pass_tokens, shared_pass_s = _passes(found.beside, call_s, long_token_s, 1 / speeds[1])
    return EndpointCosts(
        call_s=call_s,
        tokens_per_s={
            load: 1 / _without(1 / speed, base * (1 if pass_tokens is None else load)) for load, speed in speeds.items()
        },
        prefill_token_s=prefill_s,
        prefill_context_s=prefill_context_s,
        cached_token_s=_slope(cached, prompts, first_s) if cached else prefill_s,
        context_token_s=read_s,
        pass_tokens=pass_tokens,
        shared_pass_s=shared_pass_s,
        template_tokens=0.0 if found.plain is None else max(0.0, found.plain.prompt_tokens - PLAIN_TOKENS),
        jitter=_jitter([*short, *fresh]),
        failures=failures,
    )


def _prompts(short: Sequence[Call], fresh: Sequence[Call]) -> tuple[float, float, float]:
    """Seconds of a call without a prompt, more for each token of one, and more for each token before that.

    The last is 0 unless a long prompt takes longer for each of its tokens than a short one with all that its call
    takes: then nothing but its tokens takes time, and those that come later take more.
    """
    first_s, tokens = _middle(short or fresh)
    token_s = _slope([(one.prompt_tokens, one.first_s) for one in fresh], tokens, first_s)
    call_s = first_s - token_s * tokens
    if call_s >= 0:
        return call_s, token_s, 0.0
    long_s, long_tokens = _middle(fresh)
    context_s = max(0.0, 2 * (long_s / long_tokens - first_s / tokens) / max(1.0, long_tokens - tokens))
    return 0.0, max(0.0, first_s / tokens - context_s * tokens / 2), context_s


def _middle(calls: Sequence[Call]) -> tuple[float, float]:
    """Median seconds until the first token, and tokens of the prompt."""
    return statistics.median(one.first_s for one in calls), statistics.median(one.prompt_tokens for one in calls)


def _slope(calls: Sequence[tuple[int, float]], prompts: float, call_s: float) -> float:
    """Seconds for each token more than a short call has: the median, at least 0."""
    return max(0.0, statistics.median([(first_s - call_s) / max(1.0, n - prompts) for n, first_s in calls] or [0.0]))


def _context(call: Call) -> float:
    """The tokens before those of its answer, in the middle of it."""
    return call.prompt_tokens + sum(call.num_tokens) / 2


def _read_s(short: Sequence[Call], long: Sequence[Call]) -> float:
    """Seconds more between two tokens for each token before them."""
    if not _speeds(short) or not _speeds(long):
        return 0.0
    more_s = 1 / statistics.median(_speeds(long)) - 1 / statistics.median(_speeds(short))
    more = statistics.median(map(_context, long)) - statistics.median(map(_context, short))
    return max(0.0, more_s / more) if more > 0 else 0.0


def _without(token_s: float, context_s: float) -> float:
    """The rest of a token's time without that for its context; most of it is not for that, whatever was measured."""
    return max(token_s - context_s, token_s / 2)


def _speed(calls: Sequence[Call]) -> float:
    """Tokens per second after the first ones, the median over calls."""
    if not calls:
        raise BackendError("no call was answered")
    if not (found := _speeds(calls)):
        raise BackendError("its answers come in one piece, so that their speed can't be measured")
    return statistics.median(found)


def _speeds(calls: Sequence[Call]) -> list[float]:
    return [
        sum(call.num_tokens[1:]) / (call.at_s[-1] - call.at_s[0])
        for call in calls
        if len(call.at_s) > 1 and call.at_s[-1] > call.at_s[0]
    ]


def speeds_of(together: Sequence[Sequence[Call | None]]) -> list[float]:
    """For each time that some calls were made at once, the speed of each of them."""
    return [_speed_together(calls) for some in together if (calls := known(some))]


def _speed_together(calls: Sequence[Call]) -> float:
    """The speed while all of them write: not while a prompt of theirs is computed."""
    begin_s, end_s = max(call.at_s[0] for call in calls), min(call.at_s[-1] for call in calls)
    counts = [_tokens_within(call, begin_s, end_s) for call in calls]
    if min(counts) < _LEAST_TOKENS:
        return _speed(calls)
    return statistics.fmean(counts) / (end_s - begin_s)


def _tokens_within(call: Call, begin_s: float, end_s: float) -> int:
    return sum(count for at_s, count in zip(call.at_s, call.num_tokens, strict=True) if begin_s < at_s <= end_s)


def _passes(
    beside: Sequence[tuple[Call | None, Call | None]], call_s: float, prompt_token_s: float, token_s: float
) -> tuple[float | None, float]:
    """Tokens of a prompt that a pass computes, while each answer gets one, and seconds more of such a pass.

    None and 0 where prompts and answers do not share passes. By so much as a prompt takes longer beside an answer than
    alone, at `prompt_token_s` for each token, its passes do.
    """
    gaps_s = [gap_s for answer, prompt in beside if (gap_s := _gap_beside_s(answer, prompt)) is not None]
    if not gaps_s or not prompt_token_s or statistics.median(gaps_s) < SLOWED * token_s:
        return None, 0.0
    gap_s = statistics.median(gaps_s)
    shares = [share for one in beside if (share := _share_beside(*one, call_s, prompt_token_s)) is not None]
    own_s = gap_s * (statistics.median(shares) if shares else 1.0)
    pass_tokens = max(1.0, min(own_s, gap_s - prompt_token_s) / prompt_token_s)
    return pass_tokens, max(0.0, gap_s - (pass_tokens + 1) * prompt_token_s)


def _share_beside(answer: Call | None, prompt: Call | None, call_s: float, prompt_token_s: float) -> float | None:
    """The speed of a prompt beside an answer over that of one alone; None where the answer ended before it."""
    if answer is None or prompt is None or not answer.at_s or not prompt.at_s or answer.at_s[-1] < prompt.at_s[0]:
        return None
    return prompt.prompt_tokens * prompt_token_s / max(prompt.first_s - call_s, prompt_token_s)


def _gap_beside_s(answer: Call | None, prompt: Call | None) -> float | None:
    """Seconds between two tokens of an answer while a long prompt is computed; None where it can't be said."""
    if answer is None or prompt is None or not answer.at_s or not prompt.at_s:
        return None
    start_s, end_s = prompt.start_s, min(prompt.at_s[0], answer.at_s[-1])
    gaps_s = [later - earlier for earlier, later in pairwise(answer.at_s) if start_s < earlier and later <= end_s]
    if gaps_s:
        return statistics.median(gaps_s)
    return end_s - start_s if end_s > start_s else None


def _jitter(calls: Sequence[Call]) -> float:
    """The standard deviation of the time of a delta over its mean, over all calls."""
    gaps = [later - earlier for call in calls for earlier, later in pairwise(call.at_s)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps) if gaps and statistics.fmean(gaps) else 0.0
