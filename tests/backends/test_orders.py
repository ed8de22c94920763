"""Calls that fail, are stopped and are left in any order: no session, permit, timer or task is left over."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedSession, numbered_words
from stairstream.core.errors import BackendError, ModelUnusable
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, Ended
from stairstream.sim.clock import VirtualTimeLoop, run
from tests.backends.moody import Moody
from tests.engine.staircase import ASK

WORDS = numbered_words("w", 6)
STEP_S = 0.25
"""All times are small multiples of it, so that what is to coincide does."""


class Anyhow(Moody):
    """Each session has a script of its own, may take its time to open, and may not open or read at all."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(lambda opened: _script(rng), "m")
        self._rng = rng

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        await asyncio.sleep(self._rng.choice([0, 0, 1]) * STEP_S)
        if self._rng.random() < 0.1:
            raise ModelUnusable("no room")
        session = await super().open(agent, conversation, written)
        if self._rng.random() < 0.1:
            session.read = _read_nothing  # type: ignore[method-assign]
        return session


async def _read_nothing(chunks: Sequence[Chunk]) -> None:
    await asyncio.sleep(STEP_S)
    raise ModelUnusable("too much")


def _script(rng: random.Random) -> Script:
    fault = Fault(
        kind=rng.choice(["status_500", "status_429", "cut", "hang", "empty", "malformed"]),
        after_tokens=rng.randrange(3),
        calls=rng.choice([None, 1]),
    )
    return Script(
        words=WORDS,
        first_token_s=rng.randrange(6) * STEP_S,
        token_s=rng.randrange(2) * STEP_S,
        fault=fault if rng.random() < 0.5 else None,
    )


async def _use(backend: Backend, rng: random.Random) -> str:
    """What the engine does with a session: a few writes, stopped at some time, or left; in the end it is closed."""
    loop, said = asyncio.get_running_loop(), ""
    try:
        session = await backend.open(Agent(name="a", model="m", reads=("p",)), ASK)
    except BackendError:
        return said
    timers = []
    try:
        for _ in range(3):
            await session.read([Chunk(agent="p", text="x", is_final=True)])
            async with aclosing(session.write(rng.randint(1, 8))) as items:
                async for item in items:
                    if isinstance(item, Began) and rng.random() < 0.5:
                        at_s = loop.time() + rng.randrange(8) * STEP_S
                        timers += [loop.call_at(at_s, session.stop) for _ in range(rng.randint(1, 2))]
                    if rng.random() < 0.02:
                        return said
                    if isinstance(item, Delta):
                        said += item.text
                    if isinstance(item, Ended) and item.reason == "stop":
                        return said
    except BackendError:
        pass
    finally:
        for timer in timers:
            timer.cancel()
        await session.aclose()
    return said


async def _play(seed: int) -> None:
    rng = random.Random(seed)
    loop, anyhow = asyncio.get_running_loop(), Anyhow(rng)
    assert isinstance(loop, VirtualTimeLoop)
    problems: list[object] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    limited = Limited(
        anyhow, max_concurrency=rng.choice([1, 2, 3, None]), requests_per_minute=rng.choice([None, 60, 240])
    )
    hedged = Hedged(limited, hedge_after_s=rng.randint(1, 4) * STEP_S)
    backend = Retrying(hedged, attempts=rng.randint(1, 3), rng=random.Random(seed))
    free = limited._permits._free
    users = [asyncio.ensure_future(_use(backend, rng)) for _ in range(rng.randint(1, 4))]
    for user in users:
        loop.call_later(rng.randrange(24) * STEP_S, user.cancel)
    for said in await asyncio.gather(*users, return_exceptions=True):
        assert isinstance(said, asyncio.CancelledError) or (isinstance(said, str) and "".join(WORDS).startswith(said))
    assert problems == []
    assert anyhow.num_sessions == 0
    assert (limited._permits._free, limited._permits._waiting) == (free, [])
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [one for one in loop._asyncgens if one.ag_frame is not None] == []  # type: ignore[attr-defined]
    # what is left are the times at which users that are over would have been cancelled
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
    assert {getattr(timer._callback, "__name__", "") for timer in timers} <= {"cancel"}


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 1500), marks=pytest.mark.slow)], ids=str)
def test_nothing_is_left_over(seeds: range) -> None:
    for seed in seeds:
        run(_play(seed))
