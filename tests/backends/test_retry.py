"""Retries around a backend, in virtual time: pauses, what a try that failed costs, and stops between two."""

import asyncio
import random

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying, pause_before
from stairstream.backends.scripted import FaultKind
from stairstream.core.errors import RateLimited, ServerFailed
from stairstream.core.graph import Agent
from stairstream.core.session import Began, Delta, Ended, EndReason, Note, ToolDelta, Usage, WriteItem
from stairstream.sim.clock import run
from tests.backends.moody import Telling, Told, began, end_of, failing, write, write_all
from tests.engine.staircase import ASK

pytestmark = pytest.mark.manners


def retrying(inner: Backend) -> Retrying:
    return Retrying(inner, attempts=3, rng=random.Random(0))


@pytest.mark.parametrize(("attempt", "low", "high"), [(1, 0.25, 0.5), (2, 0.5, 1), (10, 15, 30)])
def test_pauses_double_with_jitter_up_to_half_a_minute(attempt: int, low: float, high: float) -> None:
    pauses = [pause_before(attempt, None, random.Random(seed)) for seed in range(50)]
    assert low <= min(pauses) < max(pauses) <= high


@pytest.mark.parametrize(("asked_s", "most_s"), [(7, 7.7), (60, 61)])
def test_retry_after_is_honoured_and_a_little_more(asked_s: float, most_s: float) -> None:
    pauses = [pause_before(1, asked_s, random.Random(seed)) for seed in range(50)]
    assert asked_s <= min(pauses) < most_s - 0.05 * (most_s - asked_s) < max(pauses) <= most_s


def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    async def main() -> tuple[str, float]:
        with pytest.raises(RateLimited) as caught:
            await write(retrying(inner))
        return str(caught.value), asyncio.get_running_loop().time()

    inner = failing("status_429", retry_after_s=3600)
    text, at_s = run(main())
    assert "3600 s" in text
    assert (len(inner.calls), at_s) == (1, 0)


@pytest.mark.parametrize(("kind", "counted"), [("empty", 3), ("status_500", 3), ("status_429", 1)])
def test_tries_that_failed_are_counted_unless_they_were_refused(kind: FaultKind, counted: int) -> None:
    inner = failing(kind, calls=2)
    items = run(write(retrying(inner)))
    assert len(inner.calls) == 3
    told = [item.usage for item in items if isinstance(item, Note | Ended) and item.usage is not None]
    assert sum(usage.prompt_tokens for usage in told) == sum(call.prompt_tokens for call in inner.calls[:counted])


def test_a_stop_while_a_call_waits_for_its_rate_ends_the_wait() -> None:
    async def main() -> float:
        limited = Limited(failing("status_500"), requests_per_minute=6)
        assert end_of(await write(retrying(limited), stop_at_s=3)).reason == "stopped"
        return asyncio.get_running_loop().time()

    assert run(main()) == 3


def test_a_stop_between_two_tries_is_kept() -> None:
    async def main() -> list[WriteItem]:
        session = await retrying(failing("status_500")).open(Agent(name="a", model="m"), ASK)
        items = []
        async for item in session.write(100):
            items.append(item)
            if isinstance(item, Note):
                session.stop()
        return items

    assert end_of(run(main())).reason == "stopped"


async def timed(told: Told, num_writes: int = 1, stop_at_s: float | None = None) -> tuple[list[WriteItem], float]:
    """What the last of these writes yields, and when it is over."""
    session, loop = await retrying(told).open(Agent(name="a", model="m"), ASK), asyncio.get_running_loop()
    if stop_at_s is not None:
        loop.call_later(stop_at_s, session.stop)
    for _ in range(num_writes):
        items = await write_all(session)
    return items, loop.time()


def test_try_that_failed_before_a_word_is_made_again_and_its_prompt_is_told() -> None:
    broken_try: Telling = [(0, began(10)), (1, ServerFailed("broken"))]
    busy_try: Telling = [(0, began(10)), (1, RateLimited("busy", retry_after_s=7))]
    good: Telling = [(0, began(12)), (0, Delta("a")), (0, Ended(reason="stop"))]
    items, at_s = run(timed(Told(broken_try, busy_try, good)))
    first, broken, second, busy, *rest = items
    assert (first, second, rest) == (began(10), began(10), [item for _, item in good])
    assert isinstance(broken, Note) and isinstance(busy, Note)
    assert (broken.kind, broken.usage) == ("retry", Usage(prompt_tokens=10, cached_tokens=0, is_estimate=True))
    assert (busy.kind, busy.usage) == ("retry", None)  # it was refused
    assert 1 + 0.25 + 1 + 7 <= at_s <= 1 + 0.5 + 1 + 7.7


@pytest.mark.parametrize("word", [Delta("a"), Delta("hm", is_thinking=True), ToolDelta(index=0, name="f")])
def test_nothing_is_tried_again_once_a_token_has_come(word: WriteItem) -> None:
    with pytest.raises(ServerFailed, match="broken"):
        run(timed(Told([(0, began(10)), (0, word), (1, ServerFailed("broken"))])))


@pytest.mark.parametrize(
    ("before", "reason", "num_calls"),
    [(Delta("a"), "stop", 2), (Delta("a"), "length", 2), (Delta("hm", is_thinking=True), "stop", 3)],
)
def test_step_without_a_word_is_the_end_of_an_answer_that_has_words(
    before: Delta, reason: EndReason, num_calls: int
) -> None:
    empty: Telling = [(0, began(11)), (0, Ended(reason=reason))]
    good: Telling = [(0, began(12)), (0, Delta("b")), (0, Ended(reason="stop"))]
    told = Told([(0, began(10)), (0, before), (0, Ended(reason="limit"))], empty, good)
    items, _ = run(timed(told, num_writes=2))
    assert items[-1] == (Ended(reason=reason) if num_calls == 2 else good[-1][1])
    assert sum(isinstance(item, Began) for item in items) == num_calls - 1


def test_a_stop_during_a_pause_ends_it() -> None:
    told = Told([(0, began(10)), (0, RateLimited("busy", retry_after_s=30))])
    items, at_s = run(timed(told, stop_at_s=2))
    assert (items[-1], at_s) == (Ended(reason="stopped", usage=Usage(cached_tokens=0)), 2)
