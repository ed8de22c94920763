"""Why a call ended, what it is counted as, and what of that is an estimate."""

import asyncio
from pathlib import Path

import pytest

from stairstream.backends.scripted import Manner, Script, numbered_words
from stairstream.core.errors import (
    StreamCut,
)
from stairstream.core.graph import Sampling
from stairstream.core.session import Delta
from stairstream.server.fake.server import FakeModel
from tests.backends.endpoints import (
    canned,
    end_of,
    ended,
    fail,
    fake,
    open_session,
    said,
    stream,
    text_of,
    write,
)

pytestmark = pytest.mark.manners

WORDS = numbered_words("w", 12)


def test_a_finish_reason_without_done_is_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(said("Hi"), ended("stop"), is_done=False)) as endpoint:
            items = await write(await open_session(endpoint.backend()))
            assert text_of(items) == "Hi"
            assert end_of(items).reason == "stop"

    asyncio.run(main())


@pytest.mark.parametrize("finish", ["abort", "insufficient_system_resource"])
def test_an_end_that_nobody_knows_is_a_cut_that_names_it(finish: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(said("Hi"), ended(finish))) as endpoint:
            error = await fail(endpoint)
            assert type(error) is StreamCut
            assert finish in str(error)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("finish", "reason"), [("content_filter", "content_filter"), ("tool_calls", "stop"), ("eos_token", "stop")]
)
def test_other_finish_reasons_pass(finish: str, reason: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(said("Hi"), ended(finish))) as endpoint:
            assert end_of(await write(await open_session(endpoint.backend()))).reason == reason

    asyncio.run(main())


@pytest.mark.parametrize("count", [80, 79, 41, 0, None])
def test_length_near_the_limit_or_uncounted_is_the_limit(count: int | None, tmp_path: Path) -> None:
    assert _end_at_limit(80, count, tmp_path) == "limit"


@pytest.mark.parametrize(("limit", "count"), [(80, 2), (80, 39), (1000, 500)])
def test_length_far_from_the_limit_is_one_of_the_server(limit: int, count: int, tmp_path: Path) -> None:
    assert _end_at_limit(limit, count, tmp_path) == "length"


def _end_at_limit(limit: int, count: int | None, tmp_path: Path) -> str:
    """Why a write ended whose server says `length`, and so many tokens."""

    async def main() -> str:
        usage = {} if count is None else {"usage": {"prompt_tokens": 9, "completion_tokens": count}}
        async with canned(tmp_path, stream(said("a"), said(" b"), ended("length", **usage))) as endpoint:
            session = await open_session(endpoint.backend(continues="flag"))
            return end_of(await write(session, limit)).reason

    return asyncio.run(main())


def test_length_without_a_word_is_length(tmp_path: Path) -> None:
    async def main() -> None:
        async with canned(tmp_path, stream(ended("length"))) as endpoint:
            assert end_of(await write(await open_session(endpoint.backend()), 3)).reason == "length"

    asyncio.run(main())


@pytest.mark.one_by_one
def test_a_server_that_does_not_stream_is_read_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS), ignores_stream=True)) as endpoint:
            items = await write(await open_session(endpoint.backend()))
            assert [item for item in items if isinstance(item, Delta)] == [Delta("".join(WORDS), 12)]
            assert end_of(items).reason == "stop"

    asyncio.run(main())


@pytest.mark.one_by_one
def test_a_server_that_ignores_max_tokens_is_stopped_at_the_limit(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, token_s=0.002)
        model = FakeModel(name="m", script=script, ignores_max_tokens=True)
        async with fake(tmp_path, model) as endpoint:
            items = await write(await open_session(endpoint.backend(continues="flag")), 5)
            assert text_of(items) == "w1 w2 w3 w4 w5"
            assert end_of(items).reason == "limit"

    asyncio.run(main())


@pytest.mark.one_by_one
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

    asyncio.run(main())


def test_without_usage_counts_are_estimates_and_cached_tokens_unknown(tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=Script(words=WORDS, manner=Manner(usage="none")))
        async with fake(tmp_path, model) as endpoint:
            items = await write(await open_session(endpoint.backend()), 100)
            deltas = [item for item in items if isinstance(item, Delta)]
            assert all(delta.is_estimate for delta in deltas)
            assert sum(delta.num_tokens for delta in deltas) == 12
            usage = end_of(items).usage
            assert usage and usage.is_estimate
            assert usage.cached_tokens is None

    asyncio.run(main())


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

    asyncio.run(main())


@pytest.mark.one_by_one
def test_a_stop_string_ends_the_call_also_where_it_began_in_an_earlier_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=Script(words=WORDS, token_s=0.001))) as endpoint:
            sampling = Sampling(stop=("w3 w4",))
            session = await open_session(endpoint.backend(continues="flag"), sampling=sampling)
            joined = text_of(await write(session, 3))
            items = await write(session)
            assert (joined, text_of(items)) == ("w1 w2 w3", " w4")
            assert (end_of(items).reason, end_of(items).stop_string) == ("stop_string", "w3 w4")

    asyncio.run(main())
