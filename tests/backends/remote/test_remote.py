"""Remote sessions in virtual time: their batches, stops and windows, and what becomes of them when their host dies."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.frames import (
    VERSION,
    WINDOW,
    BadFrame,
    Describe,
    Open,
    Reserve,
    Write,
    encode,
    pack_conversation,
)
from stairstream.backends.remote.host import serve_channel
from stairstream.backends.remote.outbox import BATCH_S
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.backends.slots import Slots
from stairstream.core.errors import (
    BackendError,
    ConfigError,
    ConnectionFailed,
    ContextTooLong,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    ServerFailed,
    StreamCut,
    UnknownModel,
)
from stairstream.core.events import Event, Noted, RunEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.policy import Policy
from stairstream.core.session import Began, Chunk, Delta, Ended, Note, WriteItem
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run
from tests.backends.remote.memory import MemoryChannel, MemoryDialler, memory_dialler
from tests.engine.staircase import ASK, mixture

AGENT = Agent(name="a", model="m", reads=("p",))
WORDS = numbered_words("w", 200)
STEADY = Script(words=WORDS, first_token_s=0.5, token_s=1 / 256)
TIMED = list[tuple[float, WriteItem]]


class Roomy(ScriptedBackend):
    """A scripted model whose sessions need slots."""

    def __init__(self, slots: Slots, script: Script) -> None:
        super().__init__(script)
        self.room = slots  # type: ignore[assignment]


@asynccontextmanager
async def hosted(backend: ScriptedBackend, delay_s: float = 0.0) -> AsyncIterator[tuple[MemoryDialler, RemoteBackend]]:
    async with memory_dialler({"m": backend}, delay_s) as dialler:
        yield dialler, await RemoteBackend.reach(dialler, "m")


def through(script: Script, act: Callable[[MemoryDialler, RemoteBackend, ScriptedBackend], Awaitable[None]]) -> None:
    """Runs a test's body in virtual time, with a model behind channels on which a frame takes 1/1024 s."""

    async def main() -> None:
        local = ScriptedBackend(script)
        async with hosted(local, 1 / 1024) as (dialler, backend):
            await act(dialler, backend, local)

    run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


async def write(backend: RemoteBackend, limit: int = 1000) -> TIMED:
    session = await backend.open(AGENT, ASK)
    try:
        return [(now(), item) async for item in session.write(limit)]
    finally:
        await session.aclose()


def text_of(items: TIMED) -> str:
    return "".join(item.text for _, item in items if isinstance(item, Delta))


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
            assert backend.room is not None and backend.room.serial == slots.serial
            async with backend.room.reserve(2):
                late = asyncio.ensure_future(_reserved(backend, 2))
                await asyncio.sleep(1)
                assert not late.done()
                dialler.channels[1].other.die("killed")  # type: ignore[union-attr]
                await asyncio.wait_for(late, 1)

    run(main())


async def _reserved(backend: RemoteBackend, num: int) -> None:
    assert backend.room is not None
    async with backend.room.reserve(num):
        pass


def test_a_reservation_that_can_never_be_had() -> None:
    async def main() -> None:
        async with hosted(Roomy(Slots(2, "test"), STEADY)) as (_, backend):
            with pytest.raises(ConfigError, match="needs 3 slots, it has 2"):
                await _reserved(backend, 3)

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
                assert (await _events(one))[-1].reason == "stop"  # type: ignore[union-attr]
            reservation, *sessions = dialler.affinities
            assert reservation.run and not reservation.prefix
            assert {one.run for one in sessions} == {reservation.run} and len({one.prefix for one in sessions}) == 1
            async with asyncio.timeout(1):
                await _reserved(backends["p1"], 2)

    run(main())


def test_turns_of_one_conversation_have_one_affinity() -> None:
    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        first = question("why?")
        for conversation in (first, (*first, *question("and then?")), question("what?")):
            await (await backend.open(AGENT, conversation)).aclose()
        one, again, other = dialler.affinities[-3:]
        assert one == again != other and not one.run

    through(STEADY, act)


EAGER = Policy(first_chunk=8, growth=1, quorum="all", patience_s=0, lead=math.inf)


async def _events(one: Run) -> list[Event]:
    return [event async for event in one.events()]


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
                events = await _events(one)
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
                events = await _events(one)
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
                late = asyncio.ensure_future(_reserved(backend, 1))
                await _events(one)
                assert one.answer == "".join(WORDS)
                assert not late.done()
            await asyncio.wait_for(late, 1)

    run(main())


def test_a_run_that_waits_for_slots_waits_at_the_next_host() -> None:
    async def main() -> None:
        async with hosted(Roomy(Slots(1, "test"), STEADY)) as (dialler, backend):
            assert backend.room is not None
            async with backend.room.reserve(1):
                late = asyncio.ensure_future(_reserved(backend, 1))
                await asyncio.sleep(1)
                dialler.kill()
                await asyncio.wait_for(late, 1)
                later = asyncio.ensure_future(_reserved(backend, 1))
                await later
            async with backend.room.reserve(1):
                late = asyncio.ensure_future(_reserved(backend, 1))
                await asyncio.sleep(1)
                dialler.is_down = True
                dialler.kill()
                with pytest.raises(ConnectionFailed, match="no engine host can be reached"):
                    await late

    run(main())


class _Peer:
    """The far end of a channel that `serve_channel` serves, for frames that no session of ours would send."""

    def __init__(self) -> None:
        self.channel, self.theirs = MemoryChannel(0), MemoryChannel(0)
        self.channel.other, self.theirs.other = self.theirs, self.channel
        self.channel.listen(lambda data: None, lambda why: None)


OPEN = encode(Open(1, VERSION, "m", AGENT, pack_conversation(ASK), ""))


@pytest.mark.parametrize(
    "frames",
    [[b"GET / HTTP/1.1"], [b""], [encode(Write(1, 5))], [OPEN, b"\xff"], [encode(Describe(1, VERSION, "m")), b"\x90"]],
)
def test_a_host_says_in_a_line_what_is_no_frame(frames: list[bytes]) -> None:
    async def main() -> None:
        local = ScriptedBackend(STEADY)
        peer = _Peer()
        for frame in frames:
            peer.channel.send(frame)
        with pytest.raises(BadFrame) as caught:
            await serve_channel(peer.theirs, {"m": local})
        assert "\n" not in str(caught.value)
        assert local.num_sessions == 0

    run(main())


def test_a_session_on_what_is_no_host_fails_by_a_line() -> None:
    async def main() -> None:
        ours, theirs = MemoryChannel(0), MemoryChannel(0)
        ours.other, theirs.other = theirs, ours
        theirs.listen(lambda data: theirs.send(b"HTTP/1.1 400"), lambda why: None)

        class Other:
            async def dial(self, model: str, affinity: object) -> MemoryChannel:
                return ours

        with pytest.raises(MalformedAnswer, match="sent what is no frame"):
            await RemoteBackend.reach(Other(), "m")

    run(main())


def test_another_version_is_refused_by_a_line() -> None:
    async def main() -> None:
        peer = _Peer()
        heard: list[bytes] = []
        peer.channel._listener = (heard.append, lambda why: None)
        peer.channel.send(encode(Reserve(1, VERSION + 1, "m", 1)))
        serving = asyncio.ensure_future(serve_channel(peer.theirs, {"m": ScriptedBackend(STEADY)}))
        await asyncio.sleep(1)
        assert b"speaks version" in heard[0]
        peer.channel.close()
        await serving

    run(main())


def test_a_session_too_long_to_send_is_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stairstream.backends.remote.line.MAX_FRAME_BYTES", 2000)

    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        with pytest.raises(RequestRejected, match="bytes of context are too many"):
            await backend.open(AGENT, question("x" * 3000))
        await asyncio.sleep(1)
        assert dialler.num_served == 0

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
