"""Retries around a backend, in virtual time: pauses, what a try that failed costs, and stops between two."""

import asyncio
import random

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying, pause_before
from stairstream.backends.scripted import FaultKind
from stairstream.core.errors import RateLimited
from stairstream.core.graph import Agent
from stairstream.core.session import Ended, Note, WriteItem
from stairstream.sim.clock import run
from tests.backends.moody import end_of, failing, write
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
    assert asked_s <= min(pauses) < max(pauses) <= most_s


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
