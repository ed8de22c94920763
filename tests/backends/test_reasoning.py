"""Reasoning models behind the openai backend: thoughts told apart, and switched off or down when the answer goes on."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stairstream.backends.chat_endpoint import Reasoning
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.scripted import Manner, Reported, Script, numbered_words
from stairstream.core.errors import MalformedAnswer
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Delta, Note, WriteItem
from stairstream.core.sse import encode_event
from stairstream.engine.run import open_run
from stairstream.server.fake.model import FakeThinking
from stairstream.server.fake.server import FakeModel
from tests.backends.endpoints import Endpoint, canned, end_of, fake, open_session, text_of, write

pytestmark = pytest.mark.manners

WORDS = numbered_words("w", 12)
THINKER = Script(words=WORDS, thoughts=("Hm, ", "well", "."))


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def reasoning_backend(
    endpoint: Endpoint, reasoning: Reasoning | None = None, thinking_tokens: int = 0
) -> OpenAIBackend:
    return OpenAIBackend(
        base_url=endpoint.base_url,
        model="m",
        continues="flag",
        pool=endpoint.pool,
        capabilities=endpoint.capabilities,
        reasoning=reasoning,
        thinking_tokens=thinking_tokens,
    )


def thoughts_of(items: list[WriteItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, Delta) and item.is_thinking)


def words_of(items: list[WriteItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, Delta) and not item.is_thinking)


def said_of(items: list[WriteItem]) -> list[str]:
    return [item.text for item in items if isinstance(item, Note) and item.kind == "reasoning"]


@pytest.mark.one_by_one
@pytest.mark.parametrize("thinking", ["reasoning_content", "reasoning", "inline"])
@pytest.mark.parametrize("ignores_stream", [False, True])
def test_thoughts_are_no_words_wherever_the_server_puts_them(
    thinking: FakeThinking, ignores_stream: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=THINKER, thinking=thinking, ignores_stream=ignores_stream)
        async with fake(tmp_path, model) as endpoint:
            items = await write(await open_session(reasoning_backend(endpoint)))
            assert thoughts_of(items) == "Hm, well."
            assert words_of(items) == "".join(WORDS)
            usage = end_of(items).usage
            assert usage is not None and usage.completion_tokens == 3 + 12

    run(main())


def test_tags_may_be_cut_anywhere(tmp_path: Path) -> None:
    async def main() -> None:
        text = "<think>Hm.</think>\n\nHello <think>"
        events = [{"choices": [{"delta": {"content": letter}}]} for letter in text]
        end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        body = b"".join(encode_event(msgspec.json.encode(event)) for event in (*events, end)) + encode_event(b"[DONE]")
        async with canned(tmp_path, body) as endpoint:
            items = await write(await open_session(endpoint.backend()))
            assert (thoughts_of(items), words_of(items)) == ("Hm.", "Hello <think>")

    run(main())


def test_a_tag_in_a_continued_message_is_a_word(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=("Write ", "<think>", "so", "</think>", " then."))
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            items = await write(await open_session(reasoning_backend(endpoint), written="Write "))
            assert (thoughts_of(items), words_of(items)) == ("", "<think>so</think> then.")

    run(main())


@pytest.mark.parametrize("reasoning", ["template", "effort"])
def test_an_answer_that_goes_on_is_not_thought_over_again_and_that_is_said_once(
    reasoning: Reasoning, tmp_path: Path
) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=THINKER)) as endpoint:
            session = await open_session(reasoning_backend(endpoint, reasoning, thinking_tokens=3))
            steps = [await write(session, 4) for _ in range(3)]
            assert [thoughts_of(items) for items in steps] == ["Hm, well.", "", ""]
            assert "".join(words_of(items) for items in steps) == "".join(WORDS)
            assert [len(said_of(items)) for items in steps] == [0, 1, 0]
            assert [call.thought_tokens for call in endpoint.calls] == [3, 0, 0]

    run(main())


def test_an_effort_that_is_not_known_is_one_step_higher(tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=THINKER, efforts=("low", "medium", "high"))
        async with fake(tmp_path, model) as endpoint:
            session = await open_session(reasoning_backend(endpoint, "effort"), written="w1 w2")
            items = await write(session)
            assert (thoughts_of(items), words_of(items)) == ("", "".join(WORDS[2:]))
            assert said_of(items) == ["thinking is switched down to low when the answer is continued"]

    run(main())


@pytest.mark.parametrize(("reasoning", "name"), [("template", "chat_template_kwargs"), ("effort", "reasoning_effort")])
def test_an_endpoint_that_takes_no_switch_thinks_anew_and_that_is_said(
    reasoning: Reasoning, name: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=THINKER, rejects=(name,))) as endpoint:
            backend = reasoning_backend(endpoint, reasoning)
            items = await write(await open_session(backend, written="w1"))
            assert (thoughts_of(items), words_of(items)) == ("Hm, well.", "".join(WORDS[1:]))
            (said,) = said_of(items)
            where = backend.endpoint.where
            assert said == f"{where} rejects {name}: the model thinks anew whenever its answer is continued"

    run(main())


@pytest.mark.one_by_one
@pytest.mark.parametrize("usage", ["exact", "at_end"])
def test_thoughts_do_not_eat_the_limit_of_a_step(usage: Reported, tmp_path: Path) -> None:
    async def main() -> None:
        model = FakeModel(name="m", script=replace(THINKER, manner=Manner(usage=usage)))
        async with fake(tmp_path, model) as endpoint:
            session = await open_session(reasoning_backend(endpoint, "always", thinking_tokens=6))
            steps = [await write(session, 4) for _ in range(3)]
            assert [words_of(items) for items in steps] == ["".join(WORDS[i : i + 4]) for i in (0, 4, 8)]
            assert [call.max_tokens for call in endpoint.calls] == [10, 10, 10]
            assert [end_of(items).reason for items in steps[:2]] == ["limit", "limit"]

    run(main())


def test_thoughts_that_take_all_the_room_are_no_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=THINKER)) as endpoint:
            with pytest.raises(MalformedAnswer, match=r"took all 2 tokens.*raise thinking_tokens"):
                await write(await open_session(reasoning_backend(endpoint)), 2)

    run(main())


def test_the_probe_of_a_thinking_model_asks_it_not_to_think(tmp_path: Path) -> None:
    async def main() -> None:
        async with fake(tmp_path, FakeModel(name="m", script=THINKER)) as endpoint:
            backend = OpenAIBackend(
                base_url=endpoint.base_url,
                model="m",
                pool=endpoint.pool,
                capabilities=endpoint.capabilities,
                reasoning="template",
            )
            assert (await backend.settle()).continues == "flag"
            assert text_of(await write(await open_session(backend, written="w1"))) == "".join(WORDS[1:])

    run(main())


def test_a_call_that_thinks_without_end_is_ended_at_the_bound(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=WORDS, thoughts=("hm ",) * 10_000, token_s=0.001)
        async with fake(tmp_path, FakeModel(name="m", script=script)) as endpoint:
            agent = Agent(name="a", model="m", thinking_tokens=50, sampling=Sampling(max_tokens=100_000))
            graph = Graph(agents=(agent,), answer="a")
            async with open_run(graph, question("why?"), {"m": reasoning_backend(endpoint)}) as one:
                await one.wait_ended()
            assert str(one.failure) == "m: its thoughts took all 50 tokens; raise thinking_tokens"
            assert 50 < one.thinking("a").num_tokens < 1000
            await asyncio.sleep(0.05)
            assert [call.ended for call in endpoint.calls] == ["left"]

    run(main())
