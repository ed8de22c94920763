"""What becomes of remote sessions and of reserved slots when their host dies."""

import asyncio
from dataclasses import replace
from random import Random

import pytest

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import ScriptedBackend, numbered_words
from stairstream.backends.slots import Slots
from stairstream.core.errors import (
    ConnectionFailed,
    StreamCut,
)
from stairstream.core.events import Event, Noted, RunEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.session import Delta, Ended, Note
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.backends.remote.hosted import AGENT, EAGER, STEADY, WORDS, Roomy, events_of, hosted, reserved
from tests.backends.remote.memory import memory_dialler
from tests.engine.staircase import ASK, mixture


def _notes(events: list[Event], kind: str) -> list[Note]:
    return [event.note for event in events if isinstance(event, Noted) and event.note.kind == kind]


@pytest.mark.parametrize("dies_s", [0.6, 0.7, 0.71, 0.75, 1.0])
def test_a_host_that_dies_in_mid_answer_loses_no_word(dies_s: float) -> None:
    async def main() -> None:
        local = {name: ScriptedBackend(replace(STEADY, words=numbered_words(name, 150))) for name in ("p1", "agg")}
        async with memory_dialler(local, 1 / 1024) as dialler:
            rng = Random(0)
            backends = {name: Retrying(await RemoteBackend.reach(dialler, name), attempts=3, rng=rng) for name in local}
            asyncio.get_running_loop().call_at(dies_s, dialler.kill)
            async with open_run(mixture(EAGER, num_proposers=1), ASK, backends) as one:
                events = await events_of(one)
            assert one.answer == "".join(local["agg"].script.words)
            assert one.log("p1").text(0, None) == "".join(local["p1"].script.words)
            assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
            notes = [note.text for note in _notes(events, "retry")]
            assert "p1: its engine host is gone: it was killed; another continues" in notes
            await asyncio.sleep(1)
            assert all(model.num_writing == model.num_sessions == 0 for model in local.values())

    run(main())


def test_a_host_that_dies_before_the_first_word_is_tried_again() -> None:
    async def main() -> None:
        local = ScriptedBackend(STEADY)
        async with hosted(local) as (dialler, remote):
            backend = Retrying(remote, attempts=2, rng=Random(0))
            session = await backend.open(AGENT, ASK)
            asyncio.get_running_loop().call_at(0.25, dialler.kill)
            items = [item async for item in session.write(1000)]
            assert "".join(item.text for item in items if isinstance(item, Delta)) == "".join(WORDS)
            assert [item.kind for item in items if isinstance(item, Note)] == ["retry"]
            await session.aclose()

    run(main())


def test_where_no_host_comes_back_a_fallback_continues() -> None:
    async def main() -> None:
        spare = ScriptedBackend(STEADY, model="spare")
        async with hosted(ScriptedBackend(STEADY)) as (dialler, backend):

            def die() -> None:
                dialler.is_down = True
                dialler.kill()

            asyncio.get_running_loop().call_at(0.75, die)
            agent = Agent(name="a", model="m", fallbacks=("spare",), sampling=Sampling(max_tokens=1000))
            async with open_run(Graph(agents=(agent,), answer="a"), ASK, {"m": backend, "spare": spare}) as one:
                events = await events_of(one)
            assert one.answer == "".join(WORDS)
            assert len(_notes(events, "failover")) == 1
            assert spare.calls[0].at_s == 0.75

    run(main())


def test_what_kills_every_host_fails_in_the_end() -> None:
    async def main() -> None:
        local = ScriptedBackend(replace(STEADY, token_s=1 / 64))
        async with hosted(local) as (dialler, backend):
            session = await backend.open(AGENT, ASK)

            async def kill() -> None:
                while True:
                    await asyncio.sleep(0.75)
                    dialler.kill()

            killing = asyncio.ensure_future(kill())
            with pytest.raises(StreamCut, match="its engine host is gone"):
                while True:
                    items = [item async for item in session.write(1000)]
                    assert isinstance(items[-1], Ended) and items[-1].reason == "stopped"
                    assert items[-1].usage is not None and items[-1].usage.is_estimate
            killing.cancel()
            assert len(local.calls) == 4
            await session.aclose()

    run(main())


def test_what_was_reserved_is_reserved_again_at_the_new_host() -> None:
    async def main() -> None:
        slots = Slots(1, "test")
        local = Roomy(slots, STEADY)
        async with hosted(local) as (dialler, backend):
            agent = Agent(name="a", model="m", sampling=Sampling(max_tokens=1000))
            asyncio.get_running_loop().call_at(0.75, dialler.kill)
            async with open_run(Graph(agents=(agent,), answer="a"), ASK, {"m": backend}) as one:
                await asyncio.sleep(0.8)
                late = asyncio.ensure_future(reserved(backend, 1))
                await events_of(one)
                assert one.answer == "".join(WORDS)
                assert not late.done()
            await asyncio.wait_for(late, 1)

    run(main())


def test_a_run_that_waits_for_slots_waits_at_the_next_host() -> None:
    async def main() -> None:
        async with hosted(Roomy(Slots(1, "test"), STEADY)) as (dialler, backend):
            assert backend.room is not None
            async with backend.room.reserve(1):
                late = asyncio.ensure_future(reserved(backend, 1))
                await asyncio.sleep(1)
                dialler.kill()
                await asyncio.wait_for(late, 1)
                later = asyncio.ensure_future(reserved(backend, 1))
                await later
            async with backend.room.reserve(1):
                late = asyncio.ensure_future(reserved(backend, 1))
                await asyncio.sleep(1)
                dialler.is_down = True
                dialler.kill()
                with pytest.raises(ConnectionFailed, match="no engine host can be reached"):
                    await late

    run(main())
