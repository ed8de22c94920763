"""Later calls of one answer through the Messages API: how it is continued, and what of the prompt is cached."""

import asyncio
from typing import Any

import pytest

from stairstream.backends.anthropic.backend import AnthropicBackend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.core.messages import question
from stairstream.core.session import Began, Chunk
from stairstream.server.fake.model import FakeModel
from tests.backends.anthropic.asking import ASK, READER, SCRIPT, WORDS, ask, place, text_of
from tests.backends.anthropic.fake import Body

# Continuing


def test_white_space_at_the_end_of_a_prefill_is_neither_sent_nor_shown_twice() -> None:
    body, _, items = ask(agent=READER, written="w1 w2 ")
    assert body["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "w1 w2"}]}
    assert "w1 w2 " + text_of(items) == "".join(WORDS)


def test_a_model_that_takes_no_prefill_is_quoted_and_it_is_said() -> None:
    model = FakeModel(name="m", script=SCRIPT, continues="reject")
    body, _, items = ask(agent=READER, written="w1 w2", model=model)
    began = [item for item in items if isinstance(item, Began)]
    assert [one.layout for one in began] == ["grouped", "quoted"]
    assert "does not support assistant message prefill" in began[1].why
    assert body["messages"][-1]["role"] == "user" and "w1 w2" in body["messages"][-1]["content"][-1]["text"]


@pytest.mark.parametrize(
    ("model", "continues"),
    [
        ("claude-3-5-haiku-20241022", "prefill"),
        ("claude-opus-4-1-20250805", "prefill"),
        ("claude-sonnet-4-5", "prefill"),
        ("claude-haiku-4-5-20251001", "prefill"),
        ("claude-opus-4-6", "none"),
        ("claude-sonnet-4-6", "none"),
        ("claude-opus-5", "none"),
        ("claude-fable-5-1", "none"),
    ],
)
def test_which_models_continue_is_known_without_asking(model: str, continues: str) -> None:
    backend = AnthropicBackend(
        base_url="https://api.anthropic.com", model=model, pool=HttpPool(), capabilities=Capabilities()
    )
    assert backend.capability.continues == continues


# The prompt cache


def marks_of(body: Body) -> list[str]:
    """All text up to each mark, in the order in which the API reads it."""
    found, text = [], ""
    for block in [*body["system"], *(block for turn in body["messages"] for block in turn["content"])]:
        text += block["text"]
        if "cache_control" in block:
            assert block["cache_control"] == {"type": "ephemeral"}
            found.append(text)
    return found


def whole_of(body: Body) -> str:
    return "".join(b["text"] for b in [*body["system"], *(b for turn in body["messages"] for b in turn["content"])])


@pytest.mark.parametrize("continues", ["prefill", "none"])
@pytest.mark.parametrize("times", [1, 600])
def test_an_update_marks_what_the_call_before_it_has_marked(continues: str, times: int) -> None:
    async def main() -> list[Body]:
        async with place(continues=continues) as (backend, asked):
            session = await backend.open(READER, question("Why? " * times))
            for chunks in (
                [Chunk(agent="p1", text="one", is_final=False), Chunk(agent="p2", text="two", is_final=False)],
                [Chunk(agent="p1", text=" more", is_final=True)],
                [Chunk(agent="p2", text=" more", is_final=False)],
                [Chunk(agent="p2", text=" and more", is_final=True)],
            ):
                await session.read(chunks)
                async for _ in session.write(2):
                    pass
            return asked.bodies

    bodies = asyncio.run(main())
    marks = [marks_of(body) for body in bodies]
    assert [len(one) for one in marks] == [1, 2, 2, 2]
    for before, body in zip(marks, bodies[1:], strict=False):
        assert before[-1] in marks_of(body), "what was written is read"
        assert all(whole_of(body).startswith(mark) for mark in before)
    assert marks[1][1].endswith("one more\n</reference>\n")


def test_nothing_is_marked_without_a_second_call_or_where_it_is_switched_off() -> None:
    async def main(is_final: bool, **options: Any) -> Body:
        async with place(**options) as (backend, asked):
            session = await backend.open(READER, ASK)
            await session.read([Chunk(agent=name, text="one", is_final=is_final) for name in ("p1", "p2")])
            async for _ in session.write(2):
                pass
            return asked.bodies[0]

    assert marks_of(asyncio.run(main(is_final=True))) == []
    assert marks_of(asyncio.run(main(is_final=False, marks_cache=False))) == []
    assert len(marks_of(asyncio.run(main(is_final=False)))) == 1
