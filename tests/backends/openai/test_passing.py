"""Words that are passed on in the turn of the loop in which their bytes come: what is said is what it is without."""

import asyncio
import functools
import itertools
import random
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path

import pytest

from stairstream.backends.base import Take
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.endpoint_session import EndpointSession
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent
from stairstream.core.session import Delta, Ended, WriteItem
from tests.backends.endpoints import ASK
from tests.upstreams.raw import DONE, FINE, FINE_TEXT, Says, Upstream, data, delta, ending, saying

WORDS = tuple(delta(f" w{number}") for number in range(20))
TOOL = data({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}}]})
THOUGHT = data({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]})
USAGE = data({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 20}})
STREAMS = {
    "words": (*WORDS, ending(), USAGE, DONE),
    "carriage returns": (b"".join(WORDS).replace(b"\n", b"\r\n"), ending(), DONE),
    "characters of four bytes": (*[delta("\U0001f600\u00e9")] * 8, ending("length"), DONE),
    "thoughts between": (*WORDS[:4], THOUGHT, *WORDS[4:8], ending(), DONE),
    "a call of a tool": (*WORDS[:4], TOOL, ending("tool_calls"), DONE),
    "comments": (*WORDS[:4], b": wait\n\n" * 5, *WORDS[4:8], ending(), DONE),
    "an error": (*WORDS[:4], data({"error": {"message": "out of memory"}})),
    "no JSON": (*WORDS[:4], data(b"<html>")),
    "no end": WORDS[:6],
    "no end of its bytes": (*WORDS[:6], WORDS[7][:20]),
    "an unknown end": (*WORDS[:4], ending("because"), DONE),
    "much at once": (b"".join(delta("x" * 50) for _ in range(2000)), ending(), DONE),
}


def on_a_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """The test on a loop of its own, in real time."""

    @functools.wraps(test)
    def run(**given: object) -> None:
        asyncio.run(test(**given))

    return run


class Taken:
    """What was said, taken or as an item; declines every `declines`th delta."""

    def __init__(self, declines: int = 10**9) -> None:
        self.items: list[WriteItem] = []
        self.num_taken = 0
        self.has_four = asyncio.Event()
        self._declines = declines
        self._num_offered = 0

    def take(self, item: Delta) -> bool:
        self._num_offered += 1
        if self._num_offered % self._declines == 0:
            return False
        assert asyncio.current_task() is None
        self.items.append(item)
        self.num_taken += 1
        if self.num_taken == 4:
            self.has_four.set()
        return True

    async def read(self, session: EndpointSession, take: Take | None) -> str:
        """One write; returns how it failed, empty if it did not."""
        session.hand_to(take)
        try:
            async with aclosing(session.write(5000)) as items:
                async for item in items:
                    self.items.append(item)
        except BackendError as exc:
            return f"{type(exc).__name__}: {exc}"
        return ""

    def said(self) -> list[object]:
        """The words, and all else with the words before it."""
        found: list[object] = []
        for item in self.items:
            if isinstance(item, Delta) and not item.is_thinking and found and isinstance(found[-1], str):
                found[-1] += item.text
            else:
                found.append(item.text if isinstance(item, Delta) and not item.is_thinking else item)
        return found


async def open_at(upstream: Upstream, pool: HttpPool, folder: Path) -> EndpointSession:
    capabilities = Capabilities(path=folder / "capabilities.json")
    backend = OpenAIBackend(
        base_url=upstream.base_url, model="m", api_key="none", continues="flag", pool=pool, capabilities=capabilities
    )
    backend.endpoint.lone_tag = False
    return await backend.open(Agent(name="a", model="m"), ASK)


def cut(stream: tuple[bytes, ...], chance: random.Random) -> tuple[bytes, ...]:
    """The same bytes in other packets."""
    joined = b"".join(stream)
    edges = sorted({0, len(joined), *(chance.randrange(len(joined)) for _ in range(15))})
    return tuple(joined[start:end] for start, end in itertools.pairwise(edges))


@pytest.mark.parametrize("end", ["whole", "cut"])
@pytest.mark.parametrize("name", STREAMS)
@on_a_loop
async def test_answer_is_the_same_passed_on_or_not(name: str, end: str, tmp_path: Path) -> None:
    chance = random.Random(f"{name} {end}")
    for packets in (STREAMS[name], cut(STREAMS[name], chance), cut(STREAMS[name], chance)):
        says = Says(packets=packets, end="whole" if end == "whole" else "cut")
        async with saying({"m": says}) as upstream, aclosing(HttpPool()) as pool:
            plain, passed, declined = Taken(), Taken(), Taken(declines=3)
            failures = [
                await one.read(await open_at(upstream, pool, tmp_path), take)
                for one, take in ((plain, None), (passed, passed.take), (declined, declined.take))
            ]
        assert failures[0] == failures[1] == failures[2]
        assert plain.said() == passed.said() == declined.said()


@on_a_loop
async def test_first_words_are_an_item_and_all_others_are_taken(tmp_path: Path) -> None:
    async with saying({"m": Says(packets=(*WORDS, ending(), DONE))}) as upstream, aclosing(HttpPool()) as pool:
        got = Taken()
        assert await got.read(await open_at(upstream, pool, tmp_path), got.take) == ""
    assert got.num_taken >= len(WORDS) - 2
    assert isinstance(got.items[1], Delta) and isinstance(got.items[-1], Ended)


@on_a_loop
async def test_connection_is_kept_and_tells_the_last_answer_nothing(tmp_path: Path) -> None:
    async with saying({"m": FINE}) as upstream, aclosing(HttpPool()) as pool:
        first, second = Taken(), Taken()
        session = await open_at(upstream, pool, tmp_path)
        await first.read(session, first.take)
        num_items = len(first.items)
        await second.read(await open_at(upstream, pool, tmp_path), second.take)
        assert len(first.items) == num_items
    assert first.said() == second.said() and FINE_TEXT in first.said()


@on_a_loop
async def test_stop_ends_a_call_whose_words_are_passed_on(tmp_path: Path) -> None:
    async with saying({"m": Says(packets=WORDS[:5], end="open")}) as upstream, aclosing(HttpPool()) as pool:
        got = Taken()
        session = await open_at(upstream, pool, tmp_path)
        reading = asyncio.create_task(got.read(session, got.take))
        async with asyncio.timeout(5):
            await got.has_four.wait()
            session.stop()
            assert await reading == ""
    assert isinstance(got.items[-1], Ended) and got.items[-1].reason == "stopped"


@on_a_loop
async def test_failure_in_taking_is_raised_where_the_words_are_written(tmp_path: Path) -> None:
    def fail(delta: Delta) -> bool:
        raise ValueError("no room")

    async with saying({"m": Says(packets=(*WORDS, ending(), DONE))}) as upstream, aclosing(HttpPool()) as pool:
        session = await open_at(upstream, pool, tmp_path)
        with pytest.raises(ValueError, match="no room"):
            await Taken().read(session, fail)


@on_a_loop
async def test_task_that_is_cancelled_closes_the_connection(tmp_path: Path) -> None:
    async with saying({"m": Says(packets=WORDS[:5], end="open")}) as upstream, aclosing(HttpPool()) as pool:
        got = Taken()
        session = await open_at(upstream, pool, tmp_path)
        reading = asyncio.create_task(got.read(session, got.take))
        async with asyncio.timeout(5):
            await got.has_four.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        connector = pool.client().connector
        assert connector is not None and not connector._acquired
