"""Trunks between fronts and replicas, in virtual time and without Ray: what a cluster would carry, a delay carries."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest

from stairstream.backends.remote.channel import BATCH_S, Affinity, Channel
from stairstream.backends.remote.frames import Items, read_from_host
from stairstream.backends.remote.outbox import Outbox
from stairstream.cluster.choosing import pinned, rank
from stairstream.cluster.dialling import DIAL_S, TrunkDialler, dialling
from stairstream.cluster.hosting import IDLE_S, LOOK_S, Host, hosting
from stairstream.cluster.trunks import BEAT_S, LOST_S, Batch
from stairstream.core.session import Delta
from stairstream.sim.clock import run

DELAY_S = 2**-9


class Replicas:
    """The calls of an engine whose replicas are in this loop. `batches` are those that fronts were sent."""

    engine = "engine"

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.hosts = dict(hosts)
        self.batches: list[Batch] = []
        self.sessions: list[str] = []
        self.is_cut = False
        self._streams: dict[str, list[asyncio.Queue[Any]]] = {}

    def kill(self, tag: str) -> None:
        del self.hosts[tag]
        for coming in self._streams[tag]:
            coming.put_nowait(ConnectionError(f"{tag} died"))

    def _tag_for(self, session: str) -> str:
        self.sessions.append(session)
        tag = pinned(session) or next(iter(rank(session, dict.fromkeys(self.hosts, 0))), "")
        if tag not in self.hosts:
            raise ConnectionError(f"{tag or 'every replica'} is gone")
        return tag

    async def attend(self, session: str, front: str, number: int) -> AsyncGenerator[str, None]:
        await asyncio.sleep(DELAY_S)
        tag = self._tag_for(session)
        async with aclosing(self._until_dead(tag, self.hosts[tag].attend(front, number))) as answers:
            async for answer in answers:
                yield answer

    async def carry(self, session: str, front: str, numbers: Sequence[int]) -> AsyncGenerator[Batch, None]:
        await asyncio.sleep(DELAY_S)
        tag = self._tag_for(session)
        async with aclosing(self._until_dead(tag, self.hosts[tag].carry(front, numbers))) as batches:
            async for batch in batches:
                await asyncio.sleep(DELAY_S)
                self.batches.append(batch)
                yield batch

    async def push(self, session: str, front: str, batch: Batch) -> None:
        await asyncio.sleep(DELAY_S)
        if self.is_cut:
            return
        tag = self._tag_for(session)
        try:
            self.hosts[tag].push(front, batch)
        except LookupError as exc:
            raise ConnectionError(str(exc)) from exc

    async def _until_dead(self, tag: str, items: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        coming: asyncio.Queue[Any] = asyncio.Queue()
        self._streams.setdefault(tag, []).append(coming)

        async def pump() -> None:
            async with aclosing(items):
                async for item in items:
                    coming.put_nowait(item)
            coming.put_nowait(None)

        pumping = asyncio.ensure_future(pump())
        try:
            while (item := await coming.get()) is not None:
                if isinstance(item, ConnectionError):
                    raise item
                yield item
        finally:
            pumping.cancel()
            await asyncio.wait({pumping})


class End:
    """What is heard at one end of a channel, with the time."""

    def __init__(self, channel: Channel, *, echoes: bool = False) -> None:
        self.channel = channel
        self._echoes = echoes
        self.frames: list[tuple[float, bytes]] = []
        self.ended: list[str] = []
        self.over = asyncio.Event()
        channel.listen(self._on_frame, self._on_end)

    def _on_frame(self, frame: bytes) -> None:
        self.frames.append((asyncio.get_running_loop().time(), frame))
        if self._echoes:
            self.channel.send(b"re " + frame)

    def _on_end(self, why: str) -> None:
        self.ended.append(why)
        self.over.set()


class Echoing:
    """Serves channels: says every frame again, and what it knows of each is in `ends`."""

    def __init__(self) -> None:
        self.ends: list[End] = []

    async def __call__(self, channel: Channel) -> None:
        end = End(channel, echoes=True)
        self.ends.append(end)
        await channel.gone.wait()  # type: ignore[attr-defined]


@asynccontextmanager
async def dialled(*tags: str) -> AsyncIterator[tuple[TrunkDialler, Replicas, dict[str, Echoing]]]:
    """A dialler for the model `m`, on replicas with these tags."""
    async with AsyncExitStack() as stack:
        served = {tag: Echoing() for tag in tags}
        hosts = {tag: await stack.enter_async_context(hosting(tag, served[tag])) for tag in tags}
        calls = Replicas(hosts)
        yield await stack.enter_async_context(dialling("front", {"m": calls})), calls, served


def test_frames_come_in_order_and_the_end_after_them() -> None:
    async def scenario() -> None:
        async with dialled("a") as (dialler, _, served):
            end = End(await dialler.dial("m", Affinity(prefix="p")))
            for number in range(3):
                end.channel.send(b"%d" % number)
            await asyncio.sleep(0.1)
            assert [frame for _, frame in end.frames] == [b"re 0", b"re 1", b"re 2"]
            (other,) = served["a"].ends
            other.channel.send(b"last")
            other.channel.close()
            await end.over.wait()
            assert (end.frames[-1][1], end.ended) == (b"last", [""])

    run(scenario())


def test_frames_of_all_sessions_share_a_message() -> None:
    async def scenario() -> None:
        async with dialled("a") as (dialler, calls, served):
            ends = [End(await dialler.dial("m", Affinity(prefix="p"))) for _ in range(5)]
            await asyncio.sleep(1)
            calls.batches.clear()
            for _ in range(4):
                for other in served["a"].ends:
                    other.channel.send(b"word")
                await asyncio.sleep(BATCH_S / 4)
            await asyncio.sleep(1)
            assert [len(batch) for batch in calls.batches] == [5, 15]  # the first at once
            assert [len(end.frames) for end in ends] == [4] * 5

    run(scenario())


def test_words_wait_once_on_all_their_way() -> None:
    begun_s: list[float] = []

    async def write(channel: Channel) -> None:
        """300 words, 2 ms apart, as a host writes them."""
        loop, out = asyncio.get_running_loop(), Outbox(1, channel)
        channel.listen(lambda frame: None, lambda why: None)
        for number in range(300):
            out.put(Delta(f"{number} "))
            begun_s.append(loop.time())
            out.took(1)
            await asyncio.sleep(0.002)
        out.flush()
        await asyncio.sleep(1)

    async def scenario() -> None:
        loop, lags = asyncio.get_running_loop(), list[float]()
        async with hosting("a", write) as host:
            calls = Replicas({"a": host})
            async with dialling("front", {"m": calls}) as dialler:
                channel, over = await dialler.dial("m", Affinity()), asyncio.Event()

                def hear(data: bytes) -> None:
                    frame = read_from_host(data)
                    assert isinstance(frame, Items)
                    for _ in frame.items:
                        lags.append(loop.time() - begun_s[len(lags)])

                channel.listen(hear, lambda why: over.set())
                await over.wait()
            assert len(lags) == 300 and max(lags) <= BATCH_S + DELAY_S + 1e-9
            assert sum(len(batch) for batch in calls.batches) < 300 / 8, "and those of one batch are one frame"

    run(scenario())


def test_a_conversation_stays_on_its_replica() -> None:
    async def scenario() -> None:
        async with dialled("a", "b", "c") as (dialler, _, served):
            for turn in range(3):
                for number in range(24):
                    await dialler.dial("m", Affinity(prefix=f"conversation {number}"))
                counts = [len(one.ends) for one in served.values()]
                assert sum(counts) == 24 * (turn + 1) and all(count % (turn + 1) == 0 for count in counts)
            assert all(counts)

    run(scenario())


def test_sessions_of_a_reservation_are_where_it_is() -> None:
    async def scenario() -> None:
        async with dialled("a", "b", "c") as (dialler, calls, _):
            wanted = [Affinity(prefix=f"p {number}", run=f"run {number}", is_reservation=True) for number in range(4)]
            held = [End(await dialler.dial("m", one)) for one in wanted]
            chosen = [session for session in calls.sessions if pinned(session) is None]
            assert chosen == ["p 0", "p 1", "p 2", "p 3"], "the slots are where earlier turns were"
            for number, one in enumerate(held):
                channel = await dialler.dial("m", Affinity(prefix=f"p {number}", run=f"run {number}"))
                assert channel.tag == one.channel.tag  # type: ignore[attr-defined]
            held[0].channel.close()
            await asyncio.sleep(1)
            calls.sessions.clear()
            await dialler.dial("m", Affinity(prefix="p 0", run="run 0"))
            assert "p 0" in calls.sessions

    run(scenario())


def test_the_death_of_a_replica_is_heard_at_once_and_others_are_dialled() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with dialled("a", "b") as (dialler, calls, _):
            ends = [End(await dialler.dial("m", Affinity(prefix=f"p {number}"))) for number in range(6)]
            lost = [end for end in ends if end.channel.tag == "a"]  # type: ignore[attr-defined]
            assert 0 < len(lost) < 6
            await asyncio.sleep(0.5)
            began_s = loop.time()
            calls.kill("a")
            await asyncio.gather(*(end.over.wait() for end in lost))
            assert loop.time() - began_s < 0.01
            assert {tuple(end.ended) for end in lost} == {("a died",)}
            assert not any(end.ended for end in ends if end not in lost)
            channel = await dialler.dial("m", Affinity(prefix="p 0"))
            assert channel.tag == "b"  # type: ignore[attr-defined]

    run(scenario())


def test_without_a_replica_dialling_fails() -> None:
    async def scenario() -> None:
        async with dialled() as (dialler, _, _):
            with pytest.raises(ConnectionError, match="every replica is gone"):
                await dialler.dial("m", Affinity())

    run(scenario())


def test_dialling_is_given_up_after_a_while() -> None:
    class Silent(Replicas):
        async def attend(self, session: str, front: str, number: int) -> AsyncGenerator[str, None]:
            await asyncio.sleep(1e6)
            yield ""

    async def scenario() -> None:
        async with dialling("front", {"m": Silent({})}) as dialler:
            with pytest.raises(ConnectionError, match="no replica of m answers within"):
                await dialler.dial("m", Affinity())
            assert asyncio.get_running_loop().time() == DIAL_S

    run(scenario())


def test_a_trunk_ends_when_it_is_not_needed_and_begins_again() -> None:
    async def scenario() -> None:
        async with dialled("a") as (dialler, calls, _):
            end = End(await dialler.dial("m", Affinity()))
            await asyncio.sleep(20)
            assert calls.hosts["a"]._trunks
            end.channel.close()
            await asyncio.sleep(2 * IDLE_S)
            assert not calls.hosts["a"]._trunks and not dialler._trunks
            again = End(await dialler.dial("m", Affinity()))
            again.channel.send(b"more")
            await asyncio.sleep(1)
            assert [frame for _, frame in again.frames] == [b"re more"]

    run(scenario())


def test_a_front_that_is_not_heard_of_loses_its_sessions() -> None:
    async def scenario() -> None:
        async with dialled("a") as (dialler, calls, served):
            end = End(await dialler.dial("m", Affinity()))
            calls.is_cut = True
            await end.over.wait()
            assert asyncio.get_running_loop().time() < LOST_S + BEAT_S + 2 * LOOK_S
            (other,) = served["a"].ends
            assert (other.ended, end.ended) == (["the server was not heard of any more"], [""])
            await asyncio.sleep(2 * IDLE_S)
            assert not calls.hosts["a"]._trunks and not dialler._trunks

    run(scenario())


def test_nothing_is_left_when_a_front_ends() -> None:
    async def scenario() -> None:
        async with dialled("a") as (_, calls, served):
            async with dialling("other front", {"m": calls}) as dialler:
                end = End(await dialler.dial("m", Affinity()))
            await end.over.wait()
            assert end.ended == ["the server is shut down"]
            await asyncio.sleep(LOST_S + 2 * LOOK_S)
            assert not calls.hosts["a"]._trunks
            (other,) = served["a"].ends
            assert other.channel.gone.is_set()  # type: ignore[attr-defined]

    run(scenario())


@pytest.mark.parametrize("lengths", [{"a": 0, "b": 0, "c": 0}, {"a": 7, "b": 8, "c": 9}])
def test_ranks_are_the_same_for_all_and_differ_by_conversation(lengths: dict[str, int]) -> None:
    firsts = [rank(f"conversation {number}", lengths)[0] for number in range(60)]
    assert firsts == [rank(f"conversation {number}", dict(reversed(lengths.items())))[0] for number in range(60)]
    assert all(firsts.count(tag) >= 10 for tag in lengths)


def test_a_replica_that_goes_moves_only_its_conversations() -> None:
    before = {str(number): rank(str(number), {"a": 0, "b": 0, "c": 0})[0] for number in range(60)}
    after = {str(number): rank(str(number), {"a": 0, "b": 0})[0] for number in range(60)}
    assert all(after[one] == tag for one, tag in before.items() if tag != "c")


def test_a_replica_with_far_more_calls_is_the_last_choice() -> None:
    assert all(rank(str(number), {"a": 30, "b": 2, "c": 2})[-1] == "a" for number in range(20))
