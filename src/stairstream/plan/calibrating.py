"""Measures the cost model of a model at its endpoint, by a few short calls: the least that a forecast needs."""

import asyncio
import statistics
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

from stairstream.backends.base import Backend
from stairstream.backends.scripted import numbered_words
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Began, Delta, Ended
from stairstream.plan.endpoints import EndpointCosts

LOADS = (1, 4)
"""Calls at once whose speed is measured."""
REPEATS = 3
SHORT_WORDS, LONG_TOKENS, ANSWER_TOKENS = 10, 1500, 48
USUAL_TOKENS_PER_WORD = 2.0
_SHORT_TOKENS = 20
PATIENCE_S = 30.0
NUM_CALLS = REPEATS * 3 + sum(LOADS[1:])
NUM_PROMPT_TOKENS = REPEATS * (_SHORT_TOKENS + 2 * LONG_TOKENS) + sum(LOADS[1:]) * _SHORT_TOKENS
"""Calls and prompt tokens, about, of the calibration of one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: its first token after `first_s`, its tokens at `at_s`, its prompt and what of it a cache held."""

    first_s: float
    at_s: Sequence[float]
    num_tokens: Sequence[int]
    prompt_tokens: int
    cached_tokens: int


async def calibrate(backend: Backend, advance: Callable[[int], None] = lambda _: None) -> EndpointCosts:
    """The endpoint's cost model; `advance` is told of each call made.

    Short and long prompts in turn give the time per prompt token, a long one once more the time per cached token (if
    the endpoint says that it was cached), and several at once the speed under load. Raises BackendError if no call
    succeeds.
    """
    failed = 0

    async def call(prompt: str) -> Call | None:
        nonlocal failed
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await _call(backend, prompt)
        except (BackendError, TimeoutError) as exc:
            failed += 1
            if failed > REPEATS:
                raise BackendError(f"{failed} of its calls failed; the last one: {exc or 'no answer in time'}") from exc
            return None
        finally:
            advance(1)

    short, fresh, again = [], [], []
    for number in range(REPEATS):
        short.append(await call(_text(f"s{number}w", SHORT_WORDS)))
        long = _text(f"l{number}w", round(LONG_TOKENS / tokens_per_word(short)))  # shares no prefix with another call
        fresh.append(await call(long))
        again.append(await call(long))
    speeds = {1: _speed(_known(short) + _known(fresh))}
    for load in LOADS[1:]:
        many = await asyncio.gather(*(call(_text(f"m{load}n{number}w", SHORT_WORDS)) for number in range(load)))
        speeds[load] = _speed(_known(many))
    return _costs(_known(short), _known(fresh), _known(again), speeds, failed / NUM_CALLS)


def _text(prefix: str, num_words: int) -> str:
    """So many words that no other text begins with."""
    return "Count on from here: " + " ".join(numbered_words(prefix, num_words))


def tokens_per_word(short: Sequence[Call | None]) -> float:
    """Tokens that the endpoint counts for such a word, so that a long prompt is as long as it should be, and fits."""
    counted = [one.prompt_tokens for one in _known(short) if one.prompt_tokens]
    return max(1.0, statistics.median(counted) / SHORT_WORDS) if counted else USUAL_TOKENS_PER_WORD


def _known(calls: Sequence[Call | None]) -> list[Call]:
    return [one for one in calls if one is not None and one.at_s]


async def _call(backend: Backend, prompt: str) -> Call:
    loop = asyncio.get_running_loop()
    agent = Agent(name="calibrate", model=backend.model, sampling=Sampling(max_tokens=ANSWER_TOKENS))
    session = await backend.open(agent, question(prompt))
    at_s, num_tokens, prompt_tokens, cached = list[float](), list[int](), 0, 0
    try:
        await session.warm()
        start_s = loop.time()
        async with aclosing(session.write(ANSWER_TOKENS)) as items:
            async for item in items:
                match item:
                    case Began():
                        prompt_tokens = item.prompt_tokens
                    case Delta(num_tokens=count) if count:
                        at_s.append(loop.time())
                        num_tokens.append(count)
                    case Ended(usage=usage) if usage is not None:
                        prompt_tokens, cached = usage.prompt_tokens, usage.cached_tokens or 0
                    case _:
                        pass
    finally:
        await session.aclose()
    first_s = (at_s[0] if at_s else loop.time()) - start_s
    return Call(first_s=first_s, at_s=at_s, num_tokens=num_tokens, prompt_tokens=prompt_tokens, cached_tokens=cached)


def _speed(calls: Sequence[Call]) -> float:
    """Tokens per second after the first ones, the median over calls."""
    if not calls:
        raise BackendError("no call was answered")
    found = [
        sum(call.num_tokens[1:]) / (call.at_s[-1] - call.at_s[0])
        for call in calls
        if len(call.at_s) > 1 and call.at_s[-1] > call.at_s[0]
    ]
    if not found:
        raise BackendError("its answers come in one piece, so that their speed can't be measured")
    return statistics.median(found)


def _costs(
    short: Sequence[Call], fresh: Sequence[Call], again: Sequence[Call], speeds: dict[int, float], failures: float
) -> EndpointCosts:
    call_s = statistics.median(one.first_s for one in short or fresh)
    prompts = statistics.median(one.prompt_tokens for one in short or fresh)
    prefill_s = _slope([(one.prompt_tokens, one.first_s) for one in fresh], prompts, call_s)
    cached = [(one.cached_tokens, one.first_s) for one in again if one.cached_tokens * 2 > one.prompt_tokens]
    return EndpointCosts(
        call_s=max(0.0, call_s - prefill_s * prompts),
        tokens_per_s=speeds,
        prefill_token_s=prefill_s,
        cached_token_s=_slope(cached, prompts, call_s) if cached else prefill_s,
        jitter=_jitter([*short, *fresh]),
        failures=failures,
    )


def _slope(calls: Sequence[tuple[int, float]], prompts: float, call_s: float) -> float:
    """Seconds for each token more than a short call has: the median, at least 0."""
    return max(0.0, statistics.median([(first_s - call_s) / max(1.0, n - prompts) for n, first_s in calls] or [0.0]))


def _jitter(calls: Sequence[Call]) -> float:
    """The standard deviation of the time of a delta over its mean, over all calls."""
    gaps = [later - earlier for call in calls for earlier, later in pairwise(call.at_s)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps) if gaps and statistics.fmean(gaps) else 0.0
