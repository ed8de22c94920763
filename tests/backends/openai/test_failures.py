"""What an endpoint fails of, as an error of ours: one line, with the place and without the key."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

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
    ContextTooLong,
    MalformedAnswer,
    NotAuthorized,
    RateLimited,
    RequestRejected,
    ServerFailed,
    StreamCut,
    UnknownModel,
)
from stairstream.core.session import Delta
from stairstream.server.fake.server import FakeModel
from tests.backends.endpoints import (
    KEY,
    Endpoint,
    answering,
    canned,
    fail,
    fake,
    open_session,
    text_of,
    write,
)

pytestmark = pytest.mark.manners

WORDS = numbered_words("w", 12)


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

    asyncio.run(main())


@pytest.mark.one_by_one
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

    asyncio.run(main())


def test_a_refused_connection_says_so() -> None:
    async def main() -> None:
        pool = HttpPool()
        endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", pool=pool, capabilities=Capabilities(), calls=[])
        error = await fail(endpoint)
        assert type(error) is ConnectionFailed
        assert "refused" in str(error)
        await pool.aclose()

    asyncio.run(main())


def test_a_wrong_key_is_not_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), api_key="other")) as endpoint:
            error = await fail(endpoint)
            assert type(error) is NotAuthorized
            assert "***" in str(error)

    asyncio.run(main())


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path) as endpoint:
            assert type(await fail(endpoint)) is UnknownModel

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "The model `m` does not exist", UnknownModel),
        (400, "maximum context length is 8 tokens", ContextTooLong),
        (400, "prompt is too long: 9 tokens > 8 maximum", ContextTooLong),
        (400, "`user` is not taken", RequestRejected),
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

    asyncio.run(main())


@pytest.mark.parametrize(
    "body", [b"<html>\n<h1>Bad Gateway</h1>", b"", b'{"detail": [{"loc": ["x"]}]}', b"plain\ntext"]
)
def test_any_error_body_makes_one_line(body: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, body, "text/html", 502) as endpoint:
            assert type(await fail(endpoint)) is ServerFailed

    asyncio.run(main())


def test_a_date_in_retry_after_counts_from_now(tmp_path: Path) -> None:
    async def main() -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
        async with canned(tmp_path, b"", "text/plain", 429, **{"Retry-After": date}) as endpoint:
            error = await fail(endpoint)
            assert isinstance(error, RateLimited) and error.retry_after_s is not None
            assert 25 < error.retry_after_s <= 30

    asyncio.run(main())


@pytest.mark.parametrize("zone", ["", " -0000"])
def test_a_date_without_a_zone_in_retry_after_is_utc(zone: str, tmp_path: Path) -> None:
    async def main() -> None:
        date = f"{datetime.now(UTC) + timedelta(seconds=30):%a, %d %b %Y %H:%M:%S}{zone}"
        async with canned(tmp_path, b"", "text/plain", 429, **{"Retry-After": date}) as endpoint:
            error = await fail(endpoint)
            assert error.retry_after_s is not None
            assert 25 < error.retry_after_s <= 30

    asyncio.run(main())


def test_a_body_that_is_no_answer_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, b'{"status": "ok"}', "application/json") as endpoint:
            error = await fail(endpoint)
            assert type(error) is MalformedAnswer
            assert "no choices" in str(error)

    asyncio.run(main())


def test_neither_key_nor_salt_is_in_the_text_of_an_error(tmp_path: Path) -> None:
    async def echo(request: web.Request) -> web.Response:
        told = f"extra fields: {(await request.json())['cache_salt']}, {request.headers['Authorization']}"
        return web.json_response({"error": {"message": told}}, status=422)

    async def main() -> None:
        async with answering(tmp_path, echo) as endpoint:
            with pytest.raises(RequestRejected) as caught:
                await write(await open_session(endpoint.backend(cache_salt=f"{KEY}-salt")))
            assert "extra fields: ***, Bearer ***" in str(caught.value)

    asyncio.run(main())


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
