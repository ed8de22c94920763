"""Remote sessions in virtual time: their batches, stops, windows, errors and slots."""

import asyncio
import math
from contextlib import aclosing
from dataclasses import replace

import pytest

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.channel import BATCH_S
from stairstream.backends.remote.frames import (
    WINDOW,
)
from stairstream.backends.scripted import Fault, ScriptedBackend, numbered_words
from stairstream.backends.slots import Slots
from stairstream.core.errors import (
    BackendError,
    ConfigError,
    ConnectionFailed,
    ContextTooLong,
    MalformedAnswer,
    RateLimited,
    ServerFailed,
    StreamCut,
    UnknownModel,
)
from stairstream.core.messages import question
from stairstream.core.session import Began, Chunk, Delta, Ended
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.backends.remote.hosted import (
    AGENT,
    EAGER,
    STEADY,
    WORDS,
    Roomy,
    events_of,
    hosted,
    now,
    reserved,
    text_of,
    through,
    write,
)
from tests.backends.remote.memory import MemoryDialler, memory_dialler
from tests.engine.staircase import ASK, mixture


def test_the_first_word_comes_at_once_and_each_other_within_a_batch() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        begun_s = now()
        items = await write(backend)
        deltas = [(at_s, item) for at_s, item in items if isinstance(item, Delta)]
        lags = [at_s - begun_s - 4 / 1024 - 0.5 - k / 256 for k, (at_s, _) in enumerate(deltas)]
        assert lags[0] == 0
        assert all(-1e-9 <= lag <= BATCH_S + 1e-9 for lag in lags)
        assert text_of(items) == "".join(WORDS)
        sent = len(dialler.channels[-1].sent)
        assert sent <= 5 + math.ceil(len(WORDS) / 256 / BATCH_S)

    through(STEADY, act)


def test_slow_words_never_wait() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        begun_s = now()
        items = await write(backend, 20)
        times = [at_s - begun_s for at_s, item in items if isinstance(item, Delta)]
        assert times == [4 / 1024 + 0.5 + k / 32 for k in range(20)]

    through(replace(STEADY, token_s=1 / 32), act)


def test_usage_and_end_are_those_of_the_host() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        session = await local.open(AGENT, ASK)
        here = [item async for item in session.write(30)]
        there = [item for _, item in await write(backend, 30)]
        assert there == here

    through(replace(STEADY, thoughts=["hm "] * 3), act)


def test_stop_is_heard_while_a_write_is_in_flight() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        session = await backend.open(AGENT, ASK)
        stopped_s, num_after = math.inf, 0
        async for item in session.write(1000):
            if isinstance(item, Delta) and stopped_s == math.inf:
                stopped_s = now()
                session.stop()
            elif isinstance(item, Delta):
                num_after += item.num_tokens
        assert item == Ended(reason="stopped", usage=replace(item.usage, completion_tokens=1 + num_after))  # type: ignore
        assert now() - stopped_s == 2 / 1024
        assert num_after <= 1
        await session.aclose()

    through(STEADY, act)


def test_a_host_writes_no_further_than_its_window_and_hears_a_stop_there() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        session = await backend.open(AGENT, ASK)
        async with aclosing(session.write(1000)) as items:
            assert isinstance(await anext(items), Began)
            await anext(items)
            await asyncio.sleep(60)
            assert "".join(local.calls[0].agent) == "a" and local.num_writing == 1
            session.stop()
            rest = [item async for item in items]
        words = [item for item in rest if isinstance(item, Delta)]
        assert WINDOW - 8 <= len(words) <= WINDOW
        assert isinstance(rest[-1], Ended) and rest[-1].reason == "stopped"
        joined = WORDS[0] + "".join(item.text for item in words)
        assert "".join(WORDS).startswith(joined)
        more = "".join([item.text async for item in session.write(1000) if isinstance(item, Delta)])
        assert joined + more == "".join(WORDS)
        await session.aclose()

    through(STEADY, act)


def test_a_writer_that_is_read_is_not_held_up_by_the_window() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        begun_s = now()
        assert text_of(await write(backend)) == "".join(WORDS)
        assert now() - begun_s <= 4 / 1024 + 0.5 + len(WORDS) / 65536 + 12 / 1024

    through(replace(STEADY, token_s=1 / 65536), act)


def test_words_are_handed_over_as_their_frame_comes() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        session = await backend.open(AGENT, ASK)
        taken: list[str] = []

        def take(delta: Delta) -> bool:
            taken.append(delta.text)
            return True

        session.hand_to(take)
        items = [item async for item in session.write(1000)]
        words = [item.text for item in items if isinstance(item, Delta)]
        assert words == [WORDS[0]]
        assert "".join(words + taken) == "".join(WORDS)
        await session.aclose()

    through(STEADY, act)


ERRORS = [
    RateLimited("m: slow down", retry_after_s=2.5),
    ContextTooLong("m: too long"),
    ConnectionFailed("m: refused"),
    ServerFailed("m: 500"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_on_both_sides(error: BackendError) -> None:
    class Failing(ScriptedBackend):
        async def open(self, *args: object, **more: object) -> None:  # type: ignore[override]
            raise error

    async def main() -> None:
        async with hosted(Failing(STEADY)) as (_, backend):
            with pytest.raises(type(error)) as caught:
                await backend.open(AGENT, ASK)
            found = caught.value
            assert type(found) is type(error) and str(found) == str(error)
            assert (found.is_retryable, found.retry_after_s) == (error.is_retryable, error.retry_after_s)

    run(main())


def test_an_error_that_is_none_of_ours_ends_only_its_call() -> None:
    class Broken(ScriptedBackend):
        async def open(self, *args: object, **more: object) -> None:  # type: ignore[override]
            raise KeyError("x")

    async def main() -> None:
        async with hosted(Broken(STEADY)) as (_, backend):
            with pytest.raises(MalformedAnswer, match="KeyError"):
                await backend.open(AGENT, ASK)

    run(main())


def test_a_write_after_a_read_that_failed_fails_by_its_error() -> None:
    class Deaf(ScriptedBackend):
        async def open(self, *args: object, **more: object) -> object:  # type: ignore[override]
            session = await super().open(*args, **more)  # type: ignore[arg-type]

            async def read(chunks: object) -> None:
                raise ContextTooLong("m: no room")

            session.read = read  # type: ignore[method-assign]
            return session

    async def main() -> None:
        async with hosted(Deaf(STEADY)) as (_, backend):
            session = await backend.open(AGENT, ASK)
            await session.read([Chunk(agent="p", text="x", is_final=False)])
            for _ in range(2):  # also when it is tried again
                with pytest.raises(ContextTooLong, match="no room"):
                    [item async for item in session.write(5)]
            await session.aclose()

    run(main())


def test_a_model_that_a_host_does_not_have() -> None:
    async def main() -> None:
        async with memory_dialler({"m": ScriptedBackend(STEADY)}) as dialler:
            with pytest.raises(UnknownModel, match="no model 'x'; it has m"):
                await RemoteBackend.reach(dialler, "x")
            dialler.is_down = True
            with pytest.raises(ConnectionFailed, match="no engine host can be reached: nobody listens"):
                await RemoteBackend.reach(dialler, "m")

    run(main())


def test_a_closed_channel_ends_its_session_and_what_it_writes() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        session = await backend.open(AGENT, ASK)
        items = session.write(1000)
        await anext(items)
        await anext(items)
        assert (local.num_writing, local.num_sessions, dialler.num_served) == (1, 1, 1)
        await session.aclose()
        await asyncio.sleep(4 / 1024)
        assert (local.num_writing, local.num_sessions, dialler.num_served) == (0, 0, 0)
        await items.aclose()

    through(STEADY, act)


def test_a_client_that_dies_frees_its_slots() -> None:
    async def main() -> None:
        slots = Slots(2, "test")
        async with hosted(Roomy(slots, STEADY)) as (dialler, backend):
            assert backend.room is not None and backend.room.count == slots.count
            async with backend.room.reserve(2):
                late = asyncio.ensure_future(reserved(backend, 2))
                await asyncio.sleep(1)
                assert not late.done()
                dialler.channels[1].other.die("killed")  # type: ignore[union-attr]
                await asyncio.wait_for(late, 1)

    run(main())


def test_a_reservation_that_can_never_be_had() -> None:
    async def main() -> None:
        async with hosted(Roomy(Slots(2, "test"), STEADY)) as (_, backend):
            with pytest.raises(ConfigError, match="needs 3 slots, it has 2"):
                await reserved(backend, 3)

    run(main())


def test_a_run_reserves_once_for_models_of_one_engine_and_its_sessions_say_so() -> None:
    async def main() -> None:
        slots = Slots(2, "test")
        local = {name: Roomy(slots, replace(STEADY, words=numbered_words(name, 20))) for name in ("p1", "agg")}
        async with memory_dialler(local) as dialler:
            backends = {name: await RemoteBackend.reach(dialler, name) for name in local}
            assert backends["p1"].room == backends["agg"].room
            del dialler.affinities[:]
            async with open_run(mixture(EAGER, num_proposers=1), ASK, backends) as one:
                assert (await events_of(one))[-1].reason == "stop"  # type: ignore[union-attr]
            reservation, *sessions = dialler.affinities
            assert reservation.run and reservation.is_reservation
            assert {one.run for one in sessions} == {reservation.run} and len({one.prefix for one in sessions}) == 1
            async with asyncio.timeout(1):
                await reserved(backends["p1"], 2)

    run(main())


def test_turns_of_one_conversation_have_one_affinity() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        first = question("why?")
        for conversation in (first, (*first, *question("and then?")), question("what?")):
            await (await backend.open(AGENT, conversation)).aclose()
        one, again, other = dialler.affinities[-3:]
        assert one == again != other and not one.run

    through(STEADY, act)


def test_a_fault_in_mid_answer_is_the_models_own() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        with pytest.raises(StreamCut, match="the script cuts the stream"):
            await write(backend)
        assert len(local.calls) == 1

    through(replace(STEADY, fault=Fault(kind="cut", after_tokens=20)), act)


def test_prefetching_beside_a_write_and_leaving_it() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        session = await backend.open(AGENT, ASK)
        assert session.prefetches and not session.reads_ahead
        items = session.write(100)
        await anext(items)
        await anext(items)
        chunk = [Chunk(agent="p", text="deep", is_final=False)]
        assert await session.prefetch(chunk)
        leaving = asyncio.ensure_future(session.prefetch(chunk))
        await asyncio.sleep(1 / 64)
        leaving.cancel()
        rest = [item async for item in items]
        assert isinstance(rest[-1], Ended) and rest[-1].usage is not None and rest[-1].usage.early_tokens > 0
        await session.aclose()

    through(replace(STEADY, prefetches=True, caches_prefix=True), act)
