"""What an endpoint does not take is left out, and a layout that it rejects is another one from then on."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from stairstream.backends.capabilities import Continues
from stairstream.backends.scripted import Script, numbered_words
from stairstream.core.errors import ContextTooLong, RequestRejected, ServerFailed
from stairstream.core.graph import Sampling
from stairstream.core.session import Began, Chunk, Ended, Note, WriteItem
from stairstream.server.fake.server import FakeModel
from tests.backends.endpoints import (
    answering,
    canned,
    ended,
    fake,
    notes_of,
    open_session,
    said,
    stream,
    text_of,
    write,
)

pytestmark = pytest.mark.manners

WORDS = numbered_words("w", 12)


def test_a_rejected_option_is_left_out_at_once_and_from_then_on(tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(
            name="m", script=Script(words=WORDS), rejects=("continuous_usage_stats", "stream_options", "max_tokens")
        )
        async with fake(tmp_path, model) as endpoint:
            backend = endpoint.backend()
            for _ in range(2):
                items = await write(await open_session(backend))
                assert text_of(items) == "".join(WORDS)
                assert notes_of(items) == []
            assert len(endpoint.calls) == 2

    asyncio.run(main())


def test_calls_at_once_learn_together_what_an_endpoint_rejects(tmp_path: Path) -> None:
    all_sent = asyncio.Event()
    bodies: list[dict[str, object]] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(body := await request.json())
        if "max_tokens" not in body:
            return web.Response(body=stream(said("Hi"), ended("stop")), content_type="text/event-stream")
        if len(bodies) == 3:
            all_sent.set()
        await all_sent.wait()
        return web.json_response({"error": {"message": "use max_completion_tokens"}}, status=400)

    async def main() -> None:
        async with answering(tmp_path, answer) as endpoint:
            backend = endpoint.backend()
            sessions = [await open_session(backend) for _ in range(3)]
            for items in await asyncio.gather(*(write(session) for session in sessions)):
                assert text_of(items) == "Hi"
            assert len(bodies) == 6

    asyncio.run(main())


def test_a_rejected_setting_is_said_once_per_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), rejects=("seed",))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"), sampling=Sampling(seed=1))
            (note,) = notes_of(await write(session, 3))
            assert note.startswith("seed")
            assert notes_of(await write(session, 3)) == []

    asyncio.run(main())


# Layouts


def test_a_layout_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), continues="none")) as endpoint:
            session = await open_session(endpoint.backend(), written="w1 w2", layout="grouped")
            await session.warm()
            items = await write(session)
            assert isinstance(items[0], Began) and items[0].layout == "quoted"
            assert "layout grouped" in notes_of(items)[0]
            assert text_of(items) == "".join(WORDS[2:])

    asyncio.run(main())


@pytest.mark.one_by_one
def test_an_answer_that_is_rejected_is_quoted_at_once_and_from_then_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), continues="reject")) as endpoint:
            backend = endpoint.backend(continues="flag")
            items = await write(await open_session(backend, written="w1 w2"), 5)
            layouts = [item.layout for item in items if isinstance(item, Began)]
            assert layouts == ["grouped", "quoted"]
            assert text_of(items) == "".join(WORDS[2:7])
            assert "rejected" in backend.capability.why
            items = await write(await open_session(backend, written="w1 w2"))
            assert [item.layout for item in items if isinstance(item, Began)] == ["quoted"]
            assert text_of(items) == "".join(WORDS[2:])

    asyncio.run(main())


def test_a_request_that_is_rejected_either_way_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        body = msgspec.json.encode({"error": {"message": "not today"}})
        async with canned(tmp_path, body, "application/json", 400) as endpoint:
            backend = endpoint.backend(continues="flag")
            with pytest.raises(RequestRejected, match="not today"):
                await write(await open_session(backend, written="w1 w2"))
            assert backend.capability.continues == "flag"

    asyncio.run(main())


def test_a_prompt_that_is_too_long_is_not_asked_again_in_another_layout(tmp_path: Path) -> None:
    async def main() -> None:
        calls = []

        async def answer(request: web.Request) -> web.Response:
            calls.append(await request.json())
            return web.json_response({"error": {"message": "maximum context length is 8 tokens"}}, status=400)

        async with answering(tmp_path, answer) as endpoint:
            backend = endpoint.backend(continues="flag")
            with pytest.raises(ContextTooLong, match="context length"):
                await write(await open_session(backend, written="w1 w2"))
            assert len(calls) == 1 and backend.capability.continues == "flag"

    asyncio.run(main())


def test_rounds_go_on_from_an_assistant_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"), layout="rounds")
            joined = text_of(await write(session, 4)) + text_of(await write(session, 4))
            items = await write(session)
            assert isinstance(items[0], Began) and items[0].layout == "rounds"
            assert joined + text_of(items) == "".join(WORDS)

    asyncio.run(main())


@pytest.mark.parametrize(("continues", "last"), [("flag", "grouped"), ("none", "rounds")])
def test_regrouped_shows_all_anew_where_the_answer_can_be_continued(
    tmp_path: Path, continues: Continues, last: str
) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), keeps_prompts=True)) as endpoint:
            session = await open_session(endpoint.backend(continues=continues), layout="regrouped")
            first = await write(session, 4)
            await session.read([Chunk(agent="p", text=" it is blue.", is_final=True)])
            rest = await write(session)
            layouts = [item.layout for item in (*first, *rest) if isinstance(item, Began)]
            assert layouts == ["rounds", last]
            prompt = "".join(str(message["content"]) for message in endpoint.calls[-1].messages or ())
            assert ("Because it is blue." in prompt) is (last == "grouped")
            assert "it is blue." in prompt
            if last == "grouped":
                assert text_of(first) + text_of(rest) == "".join(WORDS)
            else:
                assert any(
                    "layout regrouped: the endpoint can't continue" in note for note in notes_of([*first, *rest])
                )

    asyncio.run(main())


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_starts_over_is_asked_for_once_more_and_both_calls_are_counted(
    tmp_path: Path, status: int
) -> None:
    """Also where the second call fails."""
    usage = {"prompt_tokens": 70, "completion_tokens": 5}
    calls: list[object] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(await request.json())
        if len(calls) == 2 and status != 200:
            return web.Response(status=status)
        text = "Red and green and blue" if len(calls) == 1 else " and green"
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": usage})

    async def main() -> None:
        items: list[WriteItem] = []
        async with answering(tmp_path, answer) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"), written="Red and yellow", layout="grouped")
            try:
                async for item in session.write(100):
                    items.append(item)
            except ServerFailed:
                assert status == 500
        assert len(calls) == 2
        assert [item.layout for item in items if isinstance(item, Began)] == ["grouped", "quoted"]
        told = [item.usage for item in items if isinstance(item, Note | Ended) and item.usage is not None]
        assert sum(one.prompt_tokens for one in told) == (140 if status == 200 else 70)

    asyncio.run(main())
