"""Sessions on an engine that treats requests as vLLM does: the right contexts, and nothing computed twice."""

import asyncio
import string
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.in_process.pieces import join
from stairstream.backends.in_process.prompting import Prompter
from stairstream.backends.vllm.session import VllmSession
from stairstream.core.errors import ContextTooLong
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import AskedLayout, Began, Chunk, Delta, Ended, Note, WriteItem
from tests.backends.torch.tiny import make_tokens
from tests.backends.vllm.fake import BLOCK_TOKENS, FakeEngine, say_letters

if TYPE_CHECKING:
    from stairstream.backends.vllm.engine import Engine

TOKENS = make_tokens(string.ascii_letters)
AGENT = Agent(name="agg", model="m", reads=("p1", "p2"), sampling=Sampling(max_tokens=400, temperature=0))
WRITER = Agent(name="p1", model="m", sampling=Sampling(max_tokens=400, temperature=0))
ASK = question("Tell me about the sea.")
CHUNKS = [
    [Chunk(agent="p1", text="the sea is", is_final=False), Chunk(agent="p2", text="the red rose", is_final=False)],
    [Chunk(agent="p1", text=" deep and salty", is_final=False), Chunk(agent="p2", text=" is not", is_final=True)],
    [Chunk(agent="p1", text=", and the sea is not the red rose", is_final=True)],
]


def make_engine(end_at: int | None = None, context_tokens: int = 4096) -> FakeEngine:
    return FakeEngine(TOKENS, say_letters(TOKENS, end_at), context_tokens)


def make_session(engine: FakeEngine, agent: Agent, quantum_tokens: int = 4, written: str = "") -> VllmSession:
    return VllmSession(cast("Engine", engine), quantum_tokens, agent, ASK, written)


def in_layout(layout: AskedLayout | None) -> Agent:
    return replace(AGENT, layout=layout)


def run(act: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await act()

    asyncio.run(main())


async def write(session: VllmSession, limit: int) -> list[WriteItem]:
    return [item async for item in session.write(limit)]


def ids_of(items: Sequence[WriteItem]) -> list[int]:
    return [token for item in items if isinstance(item, Delta) for token in item.ids or ()]


def usage_of(items: Sequence[WriteItem]) -> tuple[int, int]:
    """Prompt tokens, and how many of them were computed."""
    ended = items[-1]
    assert isinstance(ended, Ended) and ended.usage is not None and ended.usage.cached_tokens is not None
    return ended.usage.prompt_tokens, ended.usage.prompt_tokens - ended.usage.cached_tokens


async def expect(layout: AskedLayout, limits: Sequence[int]) -> list[list[int]]:
    """What a model says that computes everything anew at every step."""
    say, prompter, found = say_letters(TOKENS), Prompter(TOKENS, AGENT, ASK, layout), []
    for chunks, limit in zip(CHUNKS, limits, strict=True):
        prompter.read(chunks)
        context, words = join(prompter.build()), list[int]()
        while len(words) < limit:
            words.append(say([*context, *words]))
        prompter.wrote(TOKENS.decode(words), words)
        found.append(words)
    return found


@pytest.mark.parametrize("layout", ["rounds", "grouped", "regrouped"])
@pytest.mark.parametrize("quantum", [1, 3, 16])
def test_it_says_what_a_model_says_that_computes_all_anew(layout: AskedLayout, quantum: int) -> None:
    async def act() -> None:
        engine = make_engine()
        session = make_session(engine, in_layout(layout), quantum)
        said = []
        for chunks, limit in zip(CHUNKS, (7, 12, 20), strict=True):
            await session.read(chunks)
            said.append(ids_of(await write(session, limit)))
        assert said == await expect(layout, (7, 12, 20))
        await session.aclose()
        assert engine.num_open == 0

    run(act)


def test_in_rounds_nothing_is_computed_twice() -> None:
    async def act() -> None:
        engine = make_engine()
        session = make_session(engine, in_layout("rounds"))
        computed = 0
        for chunks in CHUNKS:
            await session.read(chunks)
            items = await write(session, 16)
            size, new = usage_of(items)
            computed += new
        assert len(engine.requests) == 1
        assert computed <= size  # own words are part of the size, and are computed as they are written
        num_turns, num_steps = 3 * 16 // 4, 3
        assert engine.num_computed == computed + num_turns - num_steps
        await session.aclose()

    run(act)


def test_grouped_computes_what_follows_the_first_change() -> None:
    async def act() -> None:
        engine = make_engine()
        session = make_session(engine, in_layout("grouped"))
        await session.read(CHUNKS[0])
        assert usage_of(await write(session, 8)) == (engine.num_computed, engine.num_computed)
        first = engine.num_computed
        await session.read(CHUNKS[1])
        size, new = usage_of(await write(session, 8))
        assert engine.num_computed == first + new
        assert new < size and (size - new) % BLOCK_TOKENS == 0
        await session.aclose()

    run(act)


def test_a_stop_in_rounds_waits_for_the_turn_and_keeps_the_request() -> None:
    async def act() -> None:
        engine = make_engine()
        session = make_session(engine, in_layout("rounds"), quantum_tokens=4)
        await session.read(CHUNKS[0])
        count = 0
        async for item in session.write(100):
            if isinstance(item, Delta):
                count += item.num_tokens
                session.stop()
        assert isinstance(item, Ended) and item.reason == "stopped"
        assert count == 4
        await session.read(CHUNKS[1])
        await write(session, 4)
        assert len(engine.requests) == 1
        await session.aclose()

    run(act)


def test_a_stop_in_grouped_is_at_once() -> None:
    async def act() -> None:
        engine = make_engine()
        session = make_session(engine, in_layout("grouped"))
        await session.read(CHUNKS[0])
        count = 0
        async for item in session.write(100):
            if isinstance(item, Delta):
                count += item.num_tokens
                session.stop()
        assert isinstance(item, Ended) and item.reason == "stopped"
        assert count == 1
        assert engine.num_open == 0

    run(act)


def test_a_write_that_is_left_costs_its_request_and_no_word() -> None:
    async def act() -> None:
        engine = make_engine()
        session = make_session(engine, in_layout("rounds"), quantum_tokens=8)
        await session.read(CHUNKS[0])
        async with aclosing(session.write(100)) as items:
            async for item in items:
                if isinstance(item, Delta):
                    break
        assert engine.num_open == 0
        rest = ids_of(await write(session, 6))
        assert [*(item.ids or ()), *rest] == (await expect("rounds", (7, 1, 1)))[0]  # type: ignore[union-attr]
        await session.aclose()

    run(act)


def test_a_proposer_is_one_plain_request() -> None:
    async def act() -> None:
        engine = make_engine(end_at=60)
        session = make_session(engine, WRITER)
        items = await write(session, 100)
        assert isinstance(items[-1], Ended) and items[-1].reason == "stop"
        assert len(engine.requests) == 1 and engine.num_open == 0
        await session.warm()
        assert len(engine.requests) == 1

    run(act)


def test_what_is_foreseen_is_computed_early_and_only_once() -> None:
    async def act() -> None:
        engine = make_engine()
        session = make_session(engine, in_layout("grouped"))
        seen: list[Chunk] = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(session.warm())
            await asyncio.sleep(0.01)
            head = engine.num_computed
            assert head > 0
            for chunks in CHUNKS:
                seen = [
                    Chunk(
                        agent=name,
                        text="".join(one.text for one in (*seen, *chunks) if one.agent == name),
                        is_final=any(one.is_final for one in (*seen, *chunks) if one.agent == name),
                    )
                    for name in AGENT.reads
                ]
                session.foresee(seen)
                await asyncio.sleep(0.01)
            before = engine.num_computed
            assert before > head
            await session.read(seen)
            items = await write(session, 8)
        assert isinstance(items[-1], Ended) and items[-1].usage is not None
        assert items[-1].usage.early_tokens == before
        size, new = usage_of(items)
        assert new == size == engine.num_computed
        assert len(engine.requests) == 1
        other = make_session(make_engine(), in_layout("grouped"))
        await other.read(seen)
        assert ids_of(items) == ids_of(await write(other, 8))
        await session.aclose()

    run(act)


def test_a_full_context_goes_on_with_what_it_had_read() -> None:
    async def act() -> None:
        prompter = Prompter(TOKENS, AGENT, ASK, "grouped")
        prompter.read(CHUNKS[0])
        engine = make_engine(context_tokens=len(join(prompter.build())) + 24)
        session = make_session(engine, in_layout("grouped"))
        await session.read(CHUNKS[0])
        await write(session, 8)
        await session.read(CHUNKS[1])
        items = await write(session, 100)
        assert [item.kind for item in items if isinstance(item, Note)] == ["full"]
        assert isinstance(items[-1], Ended) and items[-1].reason == "length"
        assert len(ids_of(items)) == 16
        await session.aclose()

    run(act)


def test_a_prompt_that_does_not_fit_is_an_error() -> None:
    async def act() -> None:
        session = make_session(make_engine(context_tokens=20), AGENT)
        await session.read(CHUNKS[0])
        with pytest.raises(ContextTooLong, match="context_tokens"):
            await write(session, 8)

    run(act)


def test_a_layout_that_can_not_be_had_is_said_once() -> None:
    async def act() -> None:
        session = make_session(make_engine(), in_layout("insert"))
        await session.read(CHUNKS[0])
        items = [*await write(session, 4), *await write(session, 4)]
        assert [item.kind for item in items if isinstance(item, Note)] == ["ignored"]
        assert [item.layout for item in items if isinstance(item, Began)] == ["grouped", "grouped"]
        await session.aclose()

    run(act)


def test_tokens_that_spell_nothing_do_not_go_on_for_ever() -> None:
    async def act() -> None:
        session = make_session(FakeEngine(TOKENS, lambda context: 1), AGENT)
        await session.read(CHUNKS[0])
        items = await write(session, 8)
        assert isinstance(items[-1], Ended) and items[-1].reason == "length"
        assert not ids_of(items)
        await session.aclose()

    run(act)


def test_a_call_that_is_stopped_before_its_first_word_counts_what_was_not_known() -> None:
    async def act() -> None:
        session = make_session(make_engine(), in_layout("grouped"))
        await session.read(CHUNKS[0])
        size, _ = usage_of(await write(session, 40))
        items: list[WriteItem] = []
        async for item in session.write(40):
            items.append(item)
            if isinstance(item, Began):
                asyncio.get_running_loop().call_soon(session.stop)
        assert not ids_of(items)
        assert usage_of(items)[1] < BLOCK_TOKENS + 1 < size
        await session.aclose()

    run(act)
