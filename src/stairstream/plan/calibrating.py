"""Measures the cost model of a model at its endpoint, by a few short calls: the least that a forecast needs."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

from msgspec.structs import replace

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted import numbered_words
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Began, Delta, Ended
from stairstream.plan.endpoints import EndpointCosts

MOST_AT_ONCE = 4
"""Calls at once whose speed is measured, where the endpoint takes that many."""
REPEATS = 3
SHORT_WORDS, ANSWER_TOKENS = 10, 48
LONG_TOKENS, LEAST_LONG_TOKENS, LONG_S = 1500, 300, 2.0
"""Long prompts are shorter where the first one, the shortest, shows that this one would take longer than LONG_S."""
USUAL_TOKENS_PER_WORD = 2.0
_SHORT_TOKENS = 20
PATIENCE_S = 60.0
SLOWED = 1.5
"""An answer that takes so many times as long beside a prompt, or more, shares a processor with it."""

Turn = Callable[[], Awaitable[None]]
"""Waits until another call may be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """The calls of a calibration of one model, and about the tokens of their prompts."""

    calls: int
    prompt_tokens: int


def amount_of(at_once: int) -> Amount:
    """The amount, where the endpoint takes so many calls at once."""
    several = at_once if at_once > 1 else 0
    beside = 2 if several else 0
    return Amount(
        calls=2 + 3 * REPEATS + several + beside,
        prompt_tokens=_SHORT_TOKENS
        + LEAST_LONG_TOKENS
        + REPEATS * (_SHORT_TOKENS + 2 * LONG_TOKENS)
        + several * _SHORT_TOKENS
        + (_SHORT_TOKENS + LONG_TOKENS if beside else 0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: begun at `start_s`, its tokens at `at_s`, its prompt and what of it a cache held."""

    start_s: float
    at_s: Sequence[float]
    num_tokens: Sequence[int]
    prompt_tokens: int
    cached_tokens: int

    @property
    def first_s(self) -> float:
        """Until its first token."""
        return self.at_s[0] - self.start_s


async def _choose_long_words(caller: "_Caller", short: Sequence[Call | None]) -> int:
    """Words of a long prompt that is computed within LONG_S, if that is long enough."""
    per_word = tokens_per_word(short)
    first = await caller.call(_text("f", round(LEAST_LONG_TOKENS / per_word)))
    more_s = 0.0
    if first is not None and first.at_s and (known := _known(short)):
        more_s = first.first_s - known[0].first_s
    fitting = LEAST_LONG_TOKENS * LONG_S / more_s if more_s > 0 else LONG_TOKENS
    return round(min(LONG_TOKENS, max(LEAST_LONG_TOKENS, fitting)) / per_word)


async def _at_once() -> None:
    return


async def calibrate(
    backend: Backend,
    advance: Callable[[int], None] = lambda _: None,
    *,
    at_once: int = MOST_AT_ONCE,
    turn: Turn = _at_once,
) -> EndpointCosts:
    """The endpoint's cost model; `advance` is told of each call made, `turn` waited for before it.

    Short and long prompts in turn give the time per prompt token, a long one once more the time per cached token (if
    the endpoint says that it was cached), `at_once` calls the speed under load, and an answer beside a long prompt
    whether the two share a processor. Raises BackendError if no call succeeds.
    """
    caller = _Caller(backend, advance, turn)
    # connects, and loads an engine; a session's own warming would compute the prompt whose time is measured
    await caller.call(_text("w", SHORT_WORDS))
    short, fresh, again = list[Call | None](), list[Call | None](), list[Call | None]()
    long_words = 0
    for number in range(REPEATS):
        short.append(await caller.call(_text(f"s{number}w", SHORT_WORDS)))
        long_words = long_words or await _choose_long_words(caller, short)
        long = _text(f"l{number}w", long_words)  # shares no prefix with another call
        first, second = await caller.call_twice(long)
        fresh.append(first)
        again.append(second)
    speeds = {1: _speed(_known(short) + _known(fresh))}
    beside = None
    if at_once > 1:
        texts = (_text(f"m{number}w", SHORT_WORDS) for number in range(at_once))
        speeds[at_once] = _speed(_known(await asyncio.gather(*(caller.call(text) for text in texts))))
        beside = await _slowed_token_s(caller, _text("b", long_words))
    costs = _costs(_known(short), _known(fresh), _known(again), speeds, caller.failed_share)
    return replace(costs, pass_tokens=_pass_tokens(costs, beside))


class _Caller:
    """Makes calls, and counts those that failed: a few may."""

    def __init__(self, backend: Backend, advance: Callable[[int], None], turn: Turn) -> None:
        self._backend = backend
        self._advance = advance
        self._turn = turn
        self._num_calls = self._num_failed = 0

    @property
    def failed_share(self) -> float:
        """Of the calls so far."""
        return self._num_failed / max(1, self._num_calls)

    async def call(self, prompt: str, began: asyncio.Event | None = None) -> Call | None:
        """One call, None if it failed; `began` is set with its first token, or its end."""
        (found,) = await self._try(lambda: _calls(self._backend, prompt, (ANSWER_TOKENS,), began), 1, began)
        return found

    async def call_twice(self, prompt: str) -> tuple[Call | None, Call | None]:
        """A call, and another one that begins with the same text.

        A slot of an engine keeps the context of one session: there the second call continues the first one.
        """
        if self._backend.room is None:
            return await self.call(prompt), await self.call(prompt)
        limits = (ANSWER_TOKENS // 2, ANSWER_TOKENS // 2)
        first, second = await self._try(lambda: _calls(self._backend, prompt, limits, None), 2)
        return first, second

    async def _try(
        self, make: Callable[[], Awaitable[list[Call]]], num: int, began: asyncio.Event | None = None
    ) -> Sequence[Call | None]:
        self._num_calls += num
        try:
            await self._turn()
            async with asyncio.timeout(PATIENCE_S * num):
                return await make()
        except (BackendError, TimeoutError) as exc:
            self._num_failed += 1
            if self._num_failed > REPEATS:
                why = exc or "no answer in time"
                raise BackendError(f"{self._num_failed} of its calls failed; the last one: {why}") from exc
            return [None] * num
        finally:
            if began is not None:
                began.set()
            self._advance(num)


async def _slowed_token_s(caller: _Caller, long: str) -> float | None:
    """Seconds between two tokens of an answer while a long prompt is computed; None where it can't be said."""
    began = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(caller.call(_text("a", SHORT_WORDS), began))
        await began.wait()
        reading = tasks.create_task(caller.call(long))
    answer, prompt = writing.result(), reading.result()
    if answer is None or prompt is None or not answer.at_s or not prompt.at_s:
        return None
    start_s, end_s = prompt.start_s, min(prompt.at_s[0], answer.at_s[-1])
    beside = sum(count for at_s, count in zip(answer.at_s, answer.num_tokens, strict=True) if start_s < at_s <= end_s)
    return (end_s - start_s) / max(1, beside) if end_s > start_s else None


def _pass_tokens(costs: EndpointCosts, beside_s: float | None) -> float | None:
    """Tokens of a prompt that a pass computes, while each answer gets one; None where they do not share passes."""
    if beside_s is None or not costs.prefill_token_s or beside_s < SLOWED * costs.token_s(1, saturates=False):
        return None
    return max(1.0, beside_s / costs.prefill_token_s)


def _text(prefix: str, num_words: int) -> str:
    """So many words that no other text begins with."""
    return "Count on from here: " + " ".join(numbered_words(prefix, num_words))


def tokens_per_word(short: Sequence[Call | None]) -> float:
    """Tokens that the endpoint counts for such a word, so that a long prompt is as long as it should be, and fits."""
    counted = [one.prompt_tokens for one in _known(short) if one.prompt_tokens]
    return max(1.0, statistics.median(counted) / SHORT_WORDS) if counted else USUAL_TOKENS_PER_WORD


def _known(calls: Sequence[Call | None]) -> list[Call]:
    return [one for one in calls if one is not None and one.at_s]


async def _calls(backend: Backend, prompt: str, limits: Sequence[int], began: asyncio.Event | None) -> list[Call]:
    """One session, with a call for each limit of tokens: each continues the one before."""
    agent = Agent(name="calibrate", model=backend.model, sampling=Sampling(max_tokens=sum(limits)))
    session = await backend.open(agent, question(prompt))
    try:
        return [await _write(session, limit, began) for limit in limits]
    finally:
        await session.aclose()


async def _write(session: Session, limit: int, began: asyncio.Event | None) -> Call:
    loop = asyncio.get_running_loop()
    at_s, num_tokens, prompt_tokens, cached = list[float](), list[int](), 0, 0
    start_s = loop.time()
    async with aclosing(session.write(limit)) as items:
        async for item in items:
            match item:
                case Began():
                    prompt_tokens = item.prompt_tokens
                case Delta(num_tokens=count) if count:
                    at_s.append(loop.time())
                    num_tokens.append(count)
                    if began is not None:
                        began.set()
                case Ended(usage=usage) if usage is not None:
                    prompt_tokens, cached = usage.prompt_tokens, usage.cached_tokens or 0
                case _:
                    pass
    return Call(start_s=start_s, at_s=at_s, num_tokens=num_tokens, prompt_tokens=prompt_tokens, cached_tokens=cached)


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
