"""The fake server sends what public endpoints send: batches, chunks without text, usage late or rounded or none."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from stairstream.backends.scripted import Fault, Manner, Reported, Script, numbered_words
from stairstream.cli.fake_server import read_models
from stairstream.core.messages import ToolCall
from stairstream.core.sse import SseDecoder
from stairstream.server.fake.server import FakeModel, serve_fake

WORDS = numbered_words("w", 12)
ASK = {"role": "user", "content": "one two three"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """The events of one answer, without the last, [DONE]."""

    chunks: list[dict[str, Any]]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]

    @property
    def texts(self) -> list[str | None]:
        return [delta["content"] for delta in self.deltas if "content" in delta]

    @property
    def counts(self) -> list[int]:
        """What each event with usage says of the tokens so far."""
        return [chunk["usage"]["completion_tokens"] for chunk in self.chunks if "usage" in chunk]

    @property
    def finish_reason(self) -> str:
        (reason,) = (
            choice["finish_reason"] for chunk in self.chunks for choice in chunk["choices"] if choice["finish_reason"]
        )
        return str(reason)


def ask(script: Script, **fields: object) -> Streamed:
    """The answer to a request that asks for all the usage there is."""

    async def main() -> Streamed:
        options = {"include_usage": True, "continuous_usage_stats": True}
        body = {"model": "m", "messages": [ASK], "stream": True, "stream_options": options, **fields}
        async with serve_fake([FakeModel(name="m", script=script)]) as serving, aiohttp.ClientSession() as client:
            async with client.post(f"{serving.base_url}/chat/completions", json=body) as response:
                *events, done = SseDecoder().feed(await response.read())
        assert done == b"[DONE]"
        return Streamed(chunks=[msgspec.json.decode(event) for event in events])

    return asyncio.run(main())


def test_tokens_come_in_batches_with_their_counts() -> None:
    answer = ask(Script(words=WORDS, manner=Manner(batch=5)))
    assert answer.texts == ["w1 w2 w3 w4 w5", " w6 w7 w8 w9 w10", " w11 w12"]
    assert answer.counts == [5, 10, 12, 12]
    assert [chunk["usage"]["total_tokens"] for chunk in answer.chunks if "usage" in chunk] == [8, 13, 15, 15]


def test_sizes_that_are_drawn_stay_in_their_range() -> None:
    answer = ask(Script(words=numbered_words("w", 200), manner=Manner(batch=(2, 4))))
    sizes = [len((text or "").split()) for text in answer.texts]
    assert set(sizes[:-1]) == {2, 3, 4} and sum(sizes) == 200


def test_tokens_without_text_come_as_empty_content_or_none_and_count_towards_max_tokens() -> None:
    answer = ask(Script(words=WORDS, manner=Manner(silent_every=4)), max_tokens=8)
    assert answer.texts == ["w1", " w2", " w3", "", " w4", " w5", " w6", None]
    assert answer.counts == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert answer.finish_reason == "length"


@pytest.mark.parametrize(
    ("usage", "counts"), [("exact", [5, 10, 12, 12]), ("at_end", [12]), ("rounded", [10, 10, 10, 10]), ("none", [])]
)
def test_what_is_said_of_the_usage(usage: Reported, counts: list[int]) -> None:
    assert ask(Script(words=WORDS, manner=Manner(batch=5, usage=usage))).counts == counts


def test_a_whole_answer_has_no_usage_where_none_is_said() -> None:
    async def main(usage: Reported) -> bool:
        body = {"model": "m", "messages": [ASK]}
        model = FakeModel(name="m", script=Script(words=WORDS, manner=Manner(usage=usage)))
        async with serve_fake([model]) as serving, aiohttp.ClientSession() as client:
            async with client.post(f"{serving.base_url}/chat/completions", json=body) as response:
                return "usage" in await response.json()

    assert asyncio.run(main("at_end")) and not asyncio.run(main("none"))


def test_no_batch_goes_over_a_fault() -> None:
    async def main() -> bytes:
        script = Script(words=WORDS, manner=Manner(batch=5), fault=Fault(kind="error_event", after_tokens=7))
        body = {"model": "m", "messages": [ASK], "stream": True}
        async with serve_fake([FakeModel(name="m", script=script)]) as serving, aiohttp.ClientSession() as client:
            async with client.post(f"{serving.base_url}/chat/completions", json=body) as response:
                with pytest.raises(aiohttp.ClientPayloadError):
                    while True:
                        found.append(await response.content.readany())
        return b"".join(found)

    found: list[bytes] = []
    assert b' w6 w7"' in asyncio.run(main()) and b"w8" not in b"".join(found)


@pytest.mark.parametrize(("after_tokens", "status"), [(7, 500), (12, 500), (13, 200)])
def test_a_whole_answer_fails_where_a_stream_would(after_tokens: int, status: int) -> None:
    async def main() -> int:
        body = {"model": "m", "messages": [ASK]}
        script = Script(words=WORDS, fault=Fault(kind="error_event", after_tokens=after_tokens))
        async with serve_fake([FakeModel(name="m", script=script)]) as serving, aiohttp.ClientSession() as client:
            async with client.post(f"{serving.base_url}/chat/completions", json=body) as response:
                return response.status

    assert asyncio.run(main()) == status


def test_a_file_says_how_the_tokens_of_each_model_come(tmp_path: Path) -> None:
    file = tmp_path / "fakes.yaml"
    file.write_text("models: {m: {batch: 2-4, silent_every: 5, usage: at_end, continues: none}, n: {batch: 3}}")
    m, n = read_models(file)
    assert (m.script.manner, m.continues) == (Manner(batch=(2, 4), silent_every=5, usage="at_end"), "none")
    assert n.script.manner == Manner(batch=(3, 3))


def test_thoughts_and_calls_come_in_batches_too() -> None:
    call = ToolCall(id="c1", name="look", arguments='{"at": "the sea"}')
    script = Script(words=WORDS, thoughts=("hm", " well", " yes"), tool_calls=(call,), manner=Manner(batch=2))
    answer = ask(script, tools=[{"type": "function", "function": {"name": "look"}}])
    assert [one["reasoning_content"] for one in answer.deltas if "reasoning_content" in one] == ["hm well", " yes"]
    raws = [one["tool_calls"] for one in answer.deltas if "tool_calls" in one]
    assert [len(some) for some in raws] == [2, 2, 2]
    assert "".join(raw["function"]["arguments"] for some in raws for raw in some) == call.arguments
