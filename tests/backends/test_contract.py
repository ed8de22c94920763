"""What every backend promises the engine; see `backends/base.py`."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from stairstream.backends.base import Backend, Session
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Began, Chunk, Delta, Ended, EndReason, WriteItem
from tests.backends.places import PLACES, SLOW_PLACES, OpenPlace, Place

AGENT = Agent(name="agg", model="m", reads=("p1", "p2"), sampling=Sampling(max_tokens=1000, temperature=0))
ASK = question("Tell me about the sea.")
FIRST = [
    Chunk(agent="p1", text="The sea is", is_final=False),
    Chunk(agent="p2", text="", is_final=True),
]
SECOND = [Chunk(agent="p1", text=" deep and salty.", is_final=True)]


@pytest.fixture(
    params=[
        pytest.param(place, id=name, marks=[pytest.mark.slow] if name in SLOW_PLACES else [])
        for name, place in PLACES.items()
    ]
)
def open_place(request: pytest.FixtureRequest) -> OpenPlace:
    place: OpenPlace = request.param
    return place


def on(open_place: OpenPlace, act: Callable[[Place], Awaitable[None]]) -> None:
    """Run a test's body at a place."""

    async def main() -> None:
        async with open_place() as place:
            await act(place)

    asyncio.run(main())


async def open_session(backend: Backend) -> Session:
    session = await backend.open(AGENT, ASK)
    await session.read(FIRST)
    return session


async def write(session: Session, limit: int) -> list[WriteItem]:
    return [item async for item in session.write(limit)]


def text_of(items: list[WriteItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, Delta))


def reason_of(items: list[WriteItem]) -> EndReason:
    assert isinstance(items[-1], Ended)
    return items[-1].reason


def test_a_write_begins_with_began_and_ends_with_ended(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        items = await write(session, 5)
        assert isinstance(items[0], Began)
        assert [item for item in items if isinstance(item, Ended)] == [items[-1]]
        assert all(isinstance(item, Delta) and item.text and item.num_tokens >= 1 for item in items[1:-1])
        await session.aclose()

    on(open_place, act)


def test_a_write_keeps_to_its_limit_and_says_so(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        items = await write(session, 5)
        count = sum(item.num_tokens for item in items if isinstance(item, Delta))
        assert not place.is_counted or 5 <= count <= 5 + place.extra_tokens
        assert place.text is None or len(text_of(items).split()) <= 5 + place.extra_tokens
        assert reason_of(items) == "limit"
        await session.aclose()

    on(open_place, act)


def test_usage_counts_the_call(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        ended = (await write(session, 5))[-1]
        assert isinstance(ended, Ended)
        assert ended.usage is not None
        assert ended.usage.completion_tokens >= 5 or ended.usage.is_estimate
        assert ended.usage.prompt_tokens > 0
        await session.aclose()

    on(open_place, act)


def test_reading_and_writing_in_turns_joins_to_one_text(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        joined = text_of(await write(session, 7))
        joined += text_of(await write(session, 1))
        await session.read(SECOND)
        joined += text_of(await write(session, 24))
        rest = await write(session, 100)
        assert reason_of(rest) in ("stop", "limit", "length")
        assert place.text is None or joined + text_of(rest) == place.text
        await session.aclose()

    on(open_place, act)


def test_a_session_goes_on_from_given_words(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        if place.text is None:
            pytest.skip("nobody knows what it will say")
        session = await place.backend.open(AGENT, ASK, "".join(place.text[:20]).rpartition(" ")[0])
        items = await write(session, 100)
        assert text_of(items) == place.text[len(place.text[:20].rpartition(" ")[0]) :]
        assert reason_of(items) == "stop"
        await session.aclose()

    on(open_place, act)


def test_nothing_comes_behind_the_delta_that_completes_a_stop_string(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        if place.text is None:
            pytest.skip("nobody knows what it will say")
        stop = place.text[50:60]
        session = await place.backend.open(replace(AGENT, sampling=replace(AGENT.sampling, stop=(stop,))), ASK)
        items = [*await write(session, 5), *await write(session, 100)]
        *_, last = [item.text for item in items if isinstance(item, Delta)]
        text = text_of(items)
        assert place.text.startswith(text)
        assert stop in text and stop not in text.removesuffix(last)
        assert reason_of(items) == "stop_string"
        await session.aclose()

    on(open_place, act)


def test_stop_strings_do_not_match_words_of_the_client(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        if place.text is None:
            pytest.skip("nobody knows what it will say")
        begun = place.text[:20].rpartition(" ")[0]
        stop = place.text[len(begun) - 5 : len(begun) + 5]
        agent = replace(AGENT, begun=begun, sampling=replace(AGENT.sampling, stop=(stop,)))
        session = await place.backend.open(agent, ASK, begun)
        joined = text_of(await write(session, 5))
        assert joined + text_of(await write(session, 100)) == place.text[len(begun) :]
        await session.aclose()

    on(open_place, act)


def test_every_delta_is_whole_characters(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        items = await write(session, 40)
        assert all("\ufffd" not in item.text for item in items if isinstance(item, Delta))
        text_of(items).encode()
        await session.aclose()

    on(open_place, act)


def test_stop_ends_a_write_soon_and_the_next_goes_on(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        joined = ""
        num_after = 0
        is_asked = False
        async with aclosing(session.write(1000)) as items:
            async for item in items:
                if isinstance(item, Delta):
                    joined += item.text
                    num_after += item.num_tokens if is_asked else 0
                    session.stop()
                    is_asked = True
                last = item
        assert isinstance(last, Ended)
        # a whole answer in one read had ended before it was asked to
        assert last.reason == ("stop" if joined == place.text else "stopped")
        assert num_after <= max(place.extra_tokens, place.late_tokens)
        rest = await write(session, 100)
        assert place.text is None or joined + text_of(rest) == place.text
        await session.aclose()

    on(open_place, act)


def test_stop_before_the_first_token_ends_the_write(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        found: list[WriteItem] = []
        async with aclosing(session.write(1000)) as items:
            async for item in items:
                found.append(item)
                if isinstance(item, Began):
                    session.stop()
        assert reason_of(found) == "stopped"
        assert place.text is None or (place.text.startswith(text_of(found)) and len(found) < len(place.text))
        await session.aclose()

    on(open_place, act)


def test_stop_without_a_write_does_nothing(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        session.stop()
        assert text_of(await write(session, 3))
        session.stop()
        assert text_of(await write(session, 3))
        await session.aclose()

    on(open_place, act)


def test_closing_the_generator_ends_the_call_and_keeps_what_was_given(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        async with aclosing(session.write(1000)) as items:
            joined = ""
            async for item in items:
                if isinstance(item, Delta):
                    joined += item.text
                    break
        rest = await write(session, 100)
        assert place.text is None or joined + text_of(rest) == place.text
        await session.aclose()

    on(open_place, act)


def test_cancelling_the_reader_of_a_write_ends_the_call(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        writing = asyncio.ensure_future(write(session, 1000))
        await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert text_of(await write(session, 3)) or place.text is None
        await session.aclose()

    on(open_place, act)


def test_a_write_may_be_tried_again_after_an_early_failure(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        if place.flaky is None:
            pytest.skip("it can't be made to fail")
        session = await open_session(place.flaky)
        with pytest.raises(BackendError):
            await write(session, 100)
        assert text_of(await write(session, 100)) == place.text
        await session.aclose()

    on(open_place, act)


def test_aclose_may_be_called_again(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await open_session(place.backend)
        await write(session, 2)
        await session.aclose()
        await session.aclose()
        await place.backend.aclose()

    on(open_place, act)


def test_warming_beside_a_write_disturbs_nothing(open_place: OpenPlace) -> None:
    async def act(place: Place) -> None:
        session = await place.backend.open(AGENT, ASK)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(session.warm())
            await session.read(FIRST)
            items = await write(session, 5)
        rest = await write(session, 100)
        assert place.text is None or text_of(items) + text_of(rest) == place.text
        await session.aclose()

    on(open_place, act)
