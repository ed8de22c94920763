"""The openai backend before endpoints that differ, and before ones that fail."""

import asyncio
import gc
import time
import weakref
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.scripted import Fault, FaultKind, Script, numbered_words
from stairstream.core.errors import (
    BackendError,
    ConfigError,
    ConnectionFailed,
    MalformedAnswer,
    NotAuthorized,
    RateLimited,
    RequestRejected,
    ServerFailed,
    StreamCut,
    UnknownModel,
)
from stairstream.core.graph import Sampling
from stairstream.core.session import Began, Chunk, Delta
from stairstream.core.sse import encode_event
from stairstream.engine.prefetch import can_prefetch
from stairstream.server.fake.server import FakeModel
from tests.backends.endpoints import (
    KEY,
    Endpoint,
    answering,
    canned,
    end_of,
    fake,
    notes_of,
    open_session,
    text_of,
    write,
)

WORDS = numbered_words("w", 12)


def stream(*events: object, is_done: bool = True) -> bytes:
    done = encode_event(b"[DONE]") if is_done else b""
    return b"".join(encode_event(msgspec.json.encode(event)) for event in events) + done


def said(text: str, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


def ended(reason: str, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more}


async def fail(endpoint: Endpoint) -> BackendError:
    """The error of one write."""
    with pytest.raises(BackendError) as caught:
        await write(await open_session(endpoint.backend()))
    text = str(caught.value)
    assert KEY not in text and "\n" not in text and len(text) < 400
    assert "127.0.0.1" in text and "(m)" in text
    return caught.value


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


# Failures


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("status_500", ServerFailed),
        ("status_429", RateLimited),
        ("html", MalformedAnswer),
        ("reset", ConnectionFailed),
        ("cut", StreamCut),
        ("malformed", MalformedAnswer),
        ("error_event", ServerFailed),
        ("no_done", StreamCut),
    ],
)
def test_each_fault_becomes_its_error(kind: FaultKind, expected: type[BackendError], tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, fault=Fault(kind=kind, after_tokens=3, retry_after_s=7))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            error = await fail(endpoint)
            assert type(error) is expected
            assert error.retry_after_s == (7 if kind.startswith("status") else None)

    run(main())


@pytest.mark.parametrize("kind", ["cut", "malformed", "error_event"])
def test_words_before_a_fault_are_kept_and_the_next_write_goes_on(kind: FaultKind, tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, fault=Fault(kind=kind, after_tokens=3, calls=1))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            joined = ""
            with pytest.raises(BackendError):
                async for item in session.write(100):
                    joined += item.text if isinstance(item, Delta) else ""
            assert joined == "w1 w2 w3"
            assert joined + text_of(await write(session)) == "".join(WORDS)

    run(main())


def test_a_refused_connection_says_so() -> None:
    async def main() -> None:
        pool = HttpPool()
        endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", pool=pool, capabilities=Capabilities(), calls=[])
        error = await fail(endpoint)
        assert type(error) is ConnectionFailed
        assert "refused" in str(error)
        await pool.aclose()

    run(main())


def test_a_wrong_key_is_not_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), api_key="other")) as endpoint:
            error = await fail(endpoint)
            assert type(error) is NotAuthorized
            assert "***" in str(error)

    run(main())


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path) as endpoint:
            assert type(await fail(endpoint)) is UnknownModel

    run(main())


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "The model `m` does not exist", UnknownModel),
        (400, "maximum context length is 8 tokens", RequestRejected),
        (403, "no", NotAuthorized),
        (503, "overloaded " * 100, ServerFailed),
    ],
)
def test_a_status_with_a_message_becomes_its_error(
    status: int, message: str, expected: type[BackendError], tmp_path: Path
) -> None:
    async def main() -> None:
        body = msgspec.json.encode({"error": {"message": message}})
        async with canned(tmp_path, body, "application/json", status) as endpoint:
            error = await fail(endpoint)
            assert type(error) is expected
            assert message.strip()[:100] in str(error)

    run(main())


@pytest.mark.parametrize(
    "body", [b"<html>\n<h1>Bad Gateway</h1>", b"", b'{"detail": [{"loc": ["x"]}]}', b"plain\ntext"]
)
def test_any_error_body_makes_one_line(body: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, body, "text/html", 502) as endpoint:
            assert type(await fail(endpoint)) is ServerFailed

    run(main())


def test_a_date_in_retry_after_counts_from_now(tmp_path: Path) -> None:
    async def main() -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
        async with canned(tmp_path, b"", "text/plain", 429, **{"Retry-After": date}) as endpoint:
            error = await fail(endpoint)
            assert isinstance(error, RateLimited) and error.retry_after_s is not None
            assert 25 < error.retry_after_s <= 30

    run(main())


@pytest.mark.parametrize("zone", ["", " -0000"])
def test_a_date_without_a_zone_in_retry_after_is_utc(zone: str, tmp_path: Path) -> None:
    async def main() -> None:
        date = f"{datetime.now(UTC) + timedelta(seconds=30):%a, %d %b %Y %H:%M:%S}{zone}"
        async with canned(tmp_path, b"", "text/plain", 429, **{"Retry-After": date}) as endpoint:
            error = await fail(endpoint)
            assert error.retry_after_s is not None
            assert 25 < error.retry_after_s <= 30

    run(main())


def test_a_body_that_is_no_answer_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, b'{"status": "ok"}', "application/json") as endpoint:
            error = await fail(endpoint)
            assert type(error) is MalformedAnswer
            assert "no choices" in str(error)

    run(main())


def test_neither_key_nor_salt_is_in_the_text_of_an_error(tmp_path: Path) -> None:
    async def echo(request: web.Request) -> web.Response:
        told = f"extra fields: {(await request.json())['cache_salt']}, {request.headers['Authorization']}"
        return web.json_response({"error": {"message": told}}, status=422)

    async def main() -> None:
        async with answering(tmp_path, echo) as endpoint:
            with pytest.raises(RequestRejected) as caught:
                await write(await open_session(endpoint.backend(cache_salt=f"{KEY}-salt")))
            assert "extra fields: ***, Bearer ***" in str(caught.value)

    run(main())


@pytest.mark.parametrize("base_url", ["127.0.0.1:80", "ftp://host/v1", "http://", "http://host:port/"])
def test_a_base_url_that_is_none_is_a_configuration_error(base_url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        OpenAIBackend(base_url=base_url, model="m", pool=HttpPool(), capabilities=Capabilities())


def test_a_key_with_odd_characters_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIBackend(
            base_url="http://h/v1", model="m", pool=HttpPool(), capabilities=Capabilities(), api_key="s3\n\xe9"
        )
    assert "s3" not in str(caught.value)


# Ends, counts and usage


def test_a_finish_reason_without_done_is_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(said("Hi"), ended("stop"), is_done=False)) as endpoint:
            items = await write(await open_session(endpoint.backend()))
            assert text_of(items) == "Hi"
            assert end_of(items).reason == "stop"

    run(main())


@pytest.mark.parametrize("finish", ["abort", "insufficient_system_resource"])
def test_an_end_that_nobody_knows_is_a_cut_that_names_it(finish: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(said("Hi"), ended(finish))) as endpoint:
            error = await fail(endpoint)
            assert type(error) is StreamCut
            assert finish in str(error)

    run(main())


@pytest.mark.parametrize(
    ("finish", "reason"), [("content_filter", "content_filter"), ("tool_calls", "stop"), ("eos_token", "stop")]
)
def test_other_finish_reasons_pass(finish: str, reason: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(said("Hi"), ended(finish))) as endpoint:
            assert end_of(await write(await open_session(endpoint.backend()))).reason == reason

    run(main())


@pytest.mark.parametrize(("count", "reason"), [(3, "limit"), (2, "length"), (None, "limit")])
def test_length_is_the_limit_only_if_that_many_tokens_came(count: int | None, reason: str, tmp_path: Path) -> None:
    async def main() -> None:
        usage = {} if count is None else {"usage": {"prompt_tokens": 9, "completion_tokens": count}}
        async with canned(tmp_path, stream(said("a"), said(" b"), ended("length", **usage))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            assert end_of(await write(session, 3)).reason == reason

    run(main())


def test_length_without_a_word_is_length(tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(ended("length"))) as endpoint:
            assert end_of(await write(await open_session(endpoint.backend()), 3)).reason == "length"

    run(main())


def test_a_server_that_does_not_stream_is_read_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), ignores_stream=True)) as endpoint:
            items = await write(await open_session(endpoint.backend()))
            assert [item for item in items if isinstance(item, Delta)] == [Delta("".join(WORDS), 12)]
            assert end_of(items).reason == "stop"

    run(main())


def test_a_server_that_ignores_max_tokens_is_stopped_at_the_limit(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, token_s=0.002)
        model = FakeModel(name="m", script=script, ignores_max_tokens=True)
        async with fake(tmp_path, model) as endpoint:
            items = await write(await open_session(endpoint.backend(continues="flag")), 5)
            assert text_of(items) == "w1 w2 w3 w4 w5"
            assert end_of(items).reason == "limit"

    run(main())


def test_continuous_usage_gives_exact_counts_and_cached_tokens(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, caches_prefix=True, token_s=0.001)
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            first = end_of(await write(session, 5)).usage
            items = await write(session, 5)
            assert not any(item.is_estimate for item in items if isinstance(item, Delta))
            second = end_of(items).usage
            assert first and second and not second.is_estimate
            assert (first.cached_tokens, first.completion_tokens) == (0, 5)
            assert second.cached_tokens == first.prompt_tokens

    run(main())


def test_without_usage_counts_are_estimates_and_cached_tokens_unknown(tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=Script(words=WORDS), says_usage=False, says_continuous_usage=False)
        async with fake(tmp_path, model) as endpoint:
            items = await write(await open_session(endpoint.backend()), 100)
            deltas = [item for item in items if isinstance(item, Delta)]
            assert all(delta.is_estimate for delta in deltas)
            assert sum(delta.num_tokens for delta in deltas) == 12
            usage = end_of(items).usage
            assert usage and usage.is_estimate
            assert usage.cached_tokens is None

    run(main())


@pytest.mark.parametrize(
    ("more", "cached"),
    [
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 5}}, 5),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}}}, 6),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None}}, None),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 1}, "timings": {"cache_n": 7, "prompt_n": 2}}, 7),
    ],
)
def test_cached_tokens_are_found_where_servers_put_them(
    more: dict[str, object], cached: int | None, tmp_path: Path
) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(said("Hi"), ended("stop", **more))) as endpoint:
            usage = end_of(await write(await open_session(endpoint.backend()))).usage
            assert usage is not None
            assert (usage.prompt_tokens, usage.cached_tokens, usage.is_estimate) == (9, cached, False)

    run(main())


def test_a_stop_string_ends_the_call_also_where_it_began_in_an_earlier_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS, token_s=0.001))) as endpoint:
            sampling = Sampling(stop=("w3 w4",))
            session = await open_session(endpoint.backend(continues="flag"), sampling=sampling)
            joined = text_of(await write(session, 3))
            items = await write(session)
            assert (joined, text_of(items)) == ("w1 w2 w3", " w4")
            assert (end_of(items).reason, end_of(items).stop_string) == ("stop_string", "w3 w4")

    run(main())


# What an endpoint does not take


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

    run(main())


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

    run(main())


def test_a_rejected_setting_is_said_once_per_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), rejects=("seed",))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"), sampling=Sampling(seed=1))
            (note,) = notes_of(await write(session, 3))
            assert note.startswith("seed")
            assert notes_of(await write(session, 3)) == []

    run(main())


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

    run(main())


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

    run(main())


def test_a_request_that_is_rejected_either_way_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        body = msgspec.json.encode({"error": {"message": "maximum context length is 8 tokens"}})
        async with canned(tmp_path, body, "application/json", 400) as endpoint:
            backend = endpoint.backend(continues="flag")
            with pytest.raises(RequestRejected, match="context length"):
                await write(await open_session(backend, written="w1 w2"))
            assert backend.capability.continues == "flag"

    run(main())


def test_rounds_go_on_from_an_assistant_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"), layout="rounds")
            joined = text_of(await write(session, 4)) + text_of(await write(session, 4))
            items = await write(session)
            assert isinstance(items[0], Began) and items[0].layout == "rounds"
            assert joined + text_of(items) == "".join(WORDS)

    run(main())


# Leaving


@pytest.mark.parametrize("after_tokens", [0, 3])
def test_a_stop_closes_the_call_at_once_even_while_the_server_hangs(after_tokens: int, tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, fault=Fault(kind="hang", after_tokens=after_tokens))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            stopped_s: list[float] = []

            def stop() -> None:
                stopped_s.append(time.monotonic())
                session.stop()

            asyncio.get_running_loop().call_later(0.03, stop)
            assert end_of(await write(session)).reason == "stopped"
            await asyncio.sleep(0.05)
            (call,) = endpoint.calls
            assert call.ended == "left" and call.ended_s is not None
            assert call.ended_s - stopped_s[0] < 0.1

    run(main())


def test_of_a_session_that_was_stopped_in_mid_answer_nothing_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, fault=Fault(kind="hang", after_tokens=3))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            asyncio.get_running_loop().call_later(0.03, session.stop)
            assert end_of(await write(session)).reason == "stopped"
            await session.aclose()
            left = weakref.ref(session)
            del session
            await asyncio.sleep(0)  # the loop lets go of the timer
            assert left() is None

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_a_complete_answer_leaves_its_connection_to_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            for _ in range(3):
                await write(session, 2)
            connector = endpoint.pool.client().connector
            assert connector is not None
            assert sum(map(len, connector._conns.values())) == 1

    run(main())


def test_thoughts_come_as_thinking(tmp_path: Path) -> None:
    async def main() -> None:
        thought: dict[str, object] = {"choices": [{"delta": {"reasoning_content": "Hm."}}]}
        async with canned(tmp_path, stream(thought, said("Hi"), ended("stop"))) as endpoint:
            items = await write(await open_session(endpoint.backend()))
            deltas = [item for item in items if isinstance(item, Delta)]
            assert [(delta.text, delta.is_thinking) for delta in deltas] == [("Hm.", True), ("Hi", False)]

    run(main())


def test_a_kept_connection_that_the_server_closes_is_no_failure(tmp_path: Path) -> None:
    async def main() -> None:
        body = stream(said("Hi"), ended("stop"))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # promises to keep the connection, and closes it
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        pool, port = HttpPool(), server.sockets[0].getsockname()[1]
        capabilities = Capabilities(path=tmp_path / "c.json")
        backend = OpenAIBackend(base_url=f"http://127.0.0.1:{port}", model="m", pool=pool, capabilities=capabilities)
        for _ in range(3):
            assert text_of(await write(await open_session(backend))) == "Hi"
        await pool.aclose()
        server.close()

    run(main())


def test_salt_and_session_header_go_with_every_call_of_a_session(tmp_path: Path) -> None:
    seen: list[tuple[str | None, object]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers.get("x-session-id"), (await request.json()).get("cache_salt")))
        return web.json_response({"choices": [{"message": {"content": "word"}, "finish_reason": "stop"}]})

    async def main() -> None:
        async with answering(tmp_path, answer) as endpoint:
            backend = endpoint.backend(continues="flag", cache_salt="tenant-7", session_header="x-session-id")
            first, second = await open_session(backend), await open_session(backend)
            for session in (first, first, second):
                await write(session)

    run(main())
    headers, salts = zip(*seen, strict=True)
    assert salts == ("tenant-7",) * 3
    assert headers[0] and headers[0] == headers[1] != headers[2]


# Prefetching


MORE = [Chunk(agent="p", text=" the sky", is_final=False)]
CACHING = Script(words=numbered_words("w", 40), caches_prefix=True)


def test_what_is_prefetched_is_what_the_next_call_begins_with(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=CACHING, keeps_prompts=True)) as endpoint:
            session = await open_session(endpoint.backend(continues="flag", prefetches=True), layout="grouped")
            assert session.prefetch is not None
            text = text_of(await write(session, 5))
            assert await session.prefetch(MORE)
            await session.read(MORE)
            items = await write(session, 35)
            assert text + text_of(items) == "".join(CACHING.words)
            _, warm, update = endpoint.calls
            assert warm.max_tokens == 1 and update.prompt == warm.prompt
            assert update.cached_tokens == update.prompt_tokens
            usage = end_of(items).usage
            assert usage is not None and usage.completion_tokens == 36
            assert usage.prompt_tokens == update.prompt_tokens + warm.prompt_tokens
            assert usage.early_tokens == warm.prompt_tokens - (warm.cached_tokens or 0)
            assert notes_of(items) == []

    run(main())


def test_a_place_that_does_not_find_what_was_prefetched_is_not_asked_again(tmp_path: Path) -> None:
    """Replicas behind a router, for example: the second call comes to another one."""

    async def answer(request: web.Request) -> web.Response:
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10}}
        choice = {"message": {"content": " word"}, "finish_reason": "length"}
        return web.json_response({"choices": [choice], "usage": usage})

    async def main() -> None:
        async with answering(tmp_path, answer) as endpoint:
            session = await open_session(endpoint.backend(continues="flag", prefetches=True))
            assert session.prefetch is not None
            await write(session, 1)
            assert await session.prefetch(MORE)
            await session.read(MORE)
            items = await write(session, 1)
            assert ["prefetch" in note for note in notes_of(items)] == [True]
            assert not await session.prefetch(MORE)

    run(main())


def test_a_prefetch_that_fails_harms_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        fault = Fault(kind="status_500", calls=1)
        async with fake(tmp_path, FakeModel(name="m", script=replace(CACHING, fault=fault))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag", prefetches=True))
            assert session.prefetch is not None
            assert not await session.prefetch(MORE)
            await session.read(MORE)
            assert text_of(await write(session)) == "".join(CACHING.words)

    run(main())


def test_without_the_option_there_is_nothing_to_prefetch_with(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=CACHING)) as endpoint:
            session = await open_session(endpoint.backend())
            assert not can_prefetch(session)
            assert can_prefetch(await open_session(endpoint.backend(prefetches=True)))

    run(main())
