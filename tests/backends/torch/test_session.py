"""Sessions on a tiny model: the right words, and nothing computed twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.backend import TorchBackend, TorchModel  # noqa: E402
from stairstream.backends.torch.pieces import Piece, join, match_pieces  # noqa: E402
from stairstream.backends.torch.prompting import Prompter  # noqa: E402
from stairstream.backends.torch.session import TorchSession  # noqa: E402
from stairstream.core.errors import ConfigError, ModelUnusable  # noqa: E402
from stairstream.core.graph import Agent, Sampling  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import Began, Chunk, Delta, Ended, Layout, Note, WriteItem  # noqa: E402
from tests.backends.torch.tiny import greedy, make_loaded, make_network, run_all  # noqa: E402

SAMPLING = Sampling(max_tokens=400, temperature=0)
AGENT = Agent(name="agg", model="m", reads=("p1", "p2"), sampling=SAMPLING)
WRITER = Agent(name="p1", model="m", sampling=SAMPLING)
ASK = question("Tell me about the sea.")
LOADED = make_loaded()
NETWORK = make_network(vocab_size=len(LOADED.tokens))


@asynccontextmanager
async def open_model(context_tokens: int | None = None) -> AsyncIterator[TorchModel]:
    model = TorchModel(Path(__file__).parent, threads=1, context_tokens=context_tokens)
    model.use(LOADED)
    try:
        yield model
    finally:
        await model.aclose()


def on_model(act: Callable[[TorchBackend], Awaitable[None]], context_tokens: int | None = None) -> None:
    async def main() -> None:
        async with open_model(context_tokens) as model:
            await act(TorchBackend(model, "tiny"))

    asyncio.run(main())


def chunk(agent: str, text: str, is_final: bool = False) -> Chunk:
    return Chunk(agent=agent, text=text, is_final=is_final)


async def write(session: TorchSession, limit: int) -> list[WriteItem]:
    return [item async for item in session.write(limit)]


def ids_of(items: Sequence[WriteItem]) -> list[int]:
    return [token for item in items if isinstance(item, Delta) for token in item.ids or ()]


def text_of(items: Sequence[WriteItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, Delta))


def ended(items: Sequence[WriteItem]) -> Ended:
    assert isinstance(items[-1], Ended)
    return items[-1]


def computed(items: Sequence[WriteItem]) -> int:
    usage = ended(items).usage
    assert usage is not None and usage.cached_tokens is not None
    return usage.prompt_tokens - usage.cached_tokens


def test_an_answer_is_what_the_models_own_forward_writes() -> None:
    async def act(backend: TorchBackend) -> None:
        session = await backend.open(WRITER, ASK)
        items = [*await write(session, 30), *await write(session, 10)]
        prompt = join(Prompter(LOADED.tokens, WRITER, ASK, "grouped").build())
        ids = ids_of(items)
        assert len(ids) >= 40
        assert ids == greedy(NETWORK, prompt, len(ids))
        assert LOADED.tokens.decode(ids) == text_of(items)
        assert items[0] == Began(layout="grouped", why="it reads nobody", prompt_tokens=len(prompt), is_estimate=False)

    on_model(act)


def test_going_on_computes_no_prompt_but_the_last_word() -> None:
    async def act(backend: TorchBackend) -> None:
        session = await backend.open(WRITER, ASK)
        assert computed(await write(session, 10)) > 10
        assert computed(await write(session, 10)) == 1

    on_model(act)


@pytest.mark.parametrize("layout", ["grouped", "rounds"])
def test_exact_layouts_write_what_a_fresh_prompt_would(layout: Layout) -> None:
    async def act(backend: TorchBackend) -> None:
        agent = replace(AGENT, layout=layout)
        session, prompter = await backend.open(agent, ASK), Prompter(LOADED.tokens, agent, ASK, layout)
        for number in range(3):
            some = [chunk("p1", f" deep {number}"), chunk("p2", f" red {number}", number == 2)]
            await session.read(some)
            prompter.read(some)
            items = await write(session, 8)
            ids = ids_of(items)
            assert ids == greedy(NETWORK, join(prompter.build()), len(ids))
            prompter.wrote(text_of(items), ids)

    on_model(act)


def test_rounds_compute_nothing_twice_and_insert_little_more() -> None:
    async def act(backend: TorchBackend) -> None:
        ratios = {}
        for layout in ("rounds", "insert", "grouped"):
            session = await backend.open(replace(AGENT, layout=layout), ASK)
            prompt = 0
            for number in range(8):
                await session.read(
                    [chunk("p1", f" deep sea {number}"), chunk("p2", f" red rose {number}", number == 7)]
                )
                items = await write(session, 8)
                prompt += computed(items)
            ended_usage = ended(items).usage
            assert ended_usage is not None
            ratios[layout] = prompt / (ended_usage.prompt_tokens + ended_usage.completion_tokens)
        assert ratios["rounds"] <= 1 and ratios["insert"] <= 1
        assert ratios["grouped"] > 2

    on_model(act)


def test_an_insertion_changes_the_next_word() -> None:
    async def act(backend: TorchBackend) -> None:
        one, other = [await backend.open(AGENT, ASK) for _ in range(2)]
        for session in (one, other):
            await session.read([chunk("p1", "deep"), chunk("p2", "red")])
        assert ids_of(await write(one, 8)) == ids_of(await write(other, 8))
        await one.read([chunk("p1", " and wide and full of salty fish", True)])
        assert ids_of(await write(one, 20)) != ids_of(await write(other, 20))

    on_model(act)


def test_agents_with_one_prompt_compute_it_once() -> None:
    async def act(backend: TorchBackend) -> None:
        sessions = [await backend.open(WRITER, ASK) for _ in range(3)]
        alone = await write(await backend.open(WRITER, question("Something else, please.")), 20)
        results = await asyncio.gather(*(write(session, 20) for session in sessions))
        assert sorted(computed(items) for items in results)[:2] == [1, 1]
        assert all(ids_of(items) == ids_of(results[0]) for items in results)
        assert text_of(alone) != text_of(results[0])

    on_model(act)


def test_a_batch_writes_what_each_writes_alone() -> None:
    async def act(backend: TorchBackend) -> None:
        asked = [question(f"Question {number}: {'why ' * number}?") for number in range(4)]
        alone = [ids_of(await write(await backend.open(WRITER, one), 20)) for one in asked]
        together = await asyncio.gather(*[write(await backend.open(WRITER, one), 20) for one in asked])
        assert [ids_of(items) for items in together] == alone

    on_model(act)


async def settle(session: TorchSession) -> None:
    """Until all that was asked for early is computed."""
    async with asyncio.timeout(10):
        while session._early is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_warming_leaves_only_what_comes_behind_the_head() -> None:
    async def act(backend: TorchBackend) -> None:
        warmed, cold = [await backend.open(AGENT, ASK) for _ in range(2)]
        await warmed.warm()
        await settle(warmed)
        await warmed.read([chunk("p1", "deep")])
        first = await write(warmed, 12)
        usage = ended(first).usage
        assert usage is not None and usage.cached_tokens == 0
        assert 200 < usage.early_tokens < usage.prompt_tokens
        await cold.read([chunk("p1", "deep")])
        assert ids_of(await write(cold, 12)) == ids_of(first)

    on_model(act)


@pytest.mark.parametrize("layout", ["grouped", "insert", "rounds"])
def test_what_is_foreseen_is_hidden_and_changes_nothing(layout: Layout) -> None:
    async def act(backend: TorchBackend) -> None:
        agent = replace(AGENT, layout=layout)
        early, late = [await backend.open(agent, ASK) for _ in range(2)]
        last = [chunk("p1", "deep, salty and wide", True), chunk("p2", "red as a rose", True)]
        for chunks in ([chunk("p2", "red as")], [chunk("p1", "deep, sal"), chunk("p2", "red")], last):
            early.foresee(chunks)
            await settle(early)
        for session in (early, late):
            await session.read(last)
        first = await write(early, 20)
        assert ids_of(first) == ids_of(await write(late, 20))
        usage = ended(first).usage
        assert usage is not None and usage.cached_tokens is not None
        assert usage.early_tokens >= usage.prompt_tokens - 1
        assert usage.prompt_tokens - usage.cached_tokens <= usage.prompt_tokens + 10

    on_model(act)


def test_a_stop_string_ends_the_call_with_the_delta_that_completes_it() -> None:
    async def act(backend: TorchBackend) -> None:
        text = text_of(await write(await backend.open(WRITER, ASK), 40))
        stop = text[9:12]
        agent = replace(WRITER, sampling=replace(SAMPLING, stop=(stop,)))
        items = await write(await backend.open(agent, ASK), 40)
        *_, last = [item.text for item in items if isinstance(item, Delta)]
        said = text_of(items)
        assert text.startswith(said) and stop in said and stop not in said.removesuffix(last)
        assert ended(items).reason == "stop_string"

    on_model(act)


def test_a_session_goes_on_from_given_words() -> None:
    async def act(backend: TorchBackend) -> None:
        words = " and the sea is"
        items = await write(await backend.open(WRITER, ASK, words), 12)
        prompt = join(Prompter(LOADED.tokens, WRITER, ASK, "grouped", words).build())
        assert ids_of(items) == greedy(NETWORK, prompt, len(ids_of(items)))

    on_model(act)


def test_seeds_repeat_and_differ() -> None:
    async def act(backend: TorchBackend) -> None:
        async def say(seed: int) -> str:
            sampling = Sampling(temperature=1.0, top_p=0.9, seed=seed)
            return text_of(await write(await backend.open(replace(WRITER, sampling=sampling), ASK), 20))

        assert await say(1) == await say(1) != await say(2)

    on_model(act)


@pytest.mark.parametrize("layout", ["insert", "rounds"])
def test_a_full_context_is_said_and_the_answer_goes_on_without(layout: Layout) -> None:
    async def act(backend: TorchBackend) -> None:
        session = await backend.open(replace(AGENT, layout=layout), ASK)
        await session.read([chunk("p1", "deep")])
        await write(session, 4)
        await session.read([chunk("p2", "red rose " * 100, True)])
        items = await write(session, 40)
        assert [item.kind for item in items if isinstance(item, Note)] == ["full"]
        assert computed(items) == 1
        assert ids_of(items)
        rest = await write(session, 1000)
        assert ended(rest).reason in ("length", "stop")
        assert not any(isinstance(item, Note) for item in rest)

    on_model(act, context_tokens=600)


def test_a_prompt_that_never_fits_is_refused_in_words() -> None:
    async def act(backend: TorchBackend) -> None:
        session = await backend.open(WRITER, question("why " * 300))
        with pytest.raises(ModelUnusable, match="context_tokens"):
            await write(session, 4)

    on_model(act, context_tokens=600)


def test_a_stop_takes_effect_within_one_piece_of_the_prompt() -> None:
    async def act(backend: TorchBackend) -> None:
        passes: list[int] = []
        run = LOADED.model.run

        def spy(batch: Any, wanted: list[int]) -> Any:
            passes.append(len(batch.ids))
            if len(passes) == 2:
                session.stop()
            return run(batch, wanted)

        session = await backend.open(WRITER, question("why " * 250))
        LOADED.model.run = spy  # type: ignore[method-assign]
        try:
            items = await write(session, 10)
        finally:
            LOADED.model.run = run  # type: ignore[method-assign]
        assert len(passes) == 2 and max(passes) <= 128
        assert ended(items).reason == "stopped"
        assert computed(items) == sum(passes)
        num_there = sum(passes)
        rest = await write(session, 5)
        assert computed(rest) == ended(rest).usage.prompt_tokens - num_there  # type: ignore[union-attr]

    on_model(act)


def test_a_large_insertion_is_made_beside_the_words_and_seen_as_soon_as_it_is_there() -> None:
    async def act(backend: TorchBackend) -> None:
        first, second = [chunk("p1", "deep"), chunk("p2", "red")], [chunk("p1", " and wide" * 60, True)]
        session = await backend.open(AGENT, ASK)
        await session.read(first)
        before = ids_of(await write(session, 6))
        passes: list[int] = []
        run = LOADED.model.run

        def spy(batch: Any, wanted: list[int]) -> Any:
            passes.append(len(batch.ids))
            return run(batch, wanted)

        await session.read(second)
        LOADED.model.run = spy  # type: ignore[method-assign]
        try:
            items = await write(session, 24)
        finally:
            LOADED.model.run = run  # type: ignore[method-assign]
        num_large = sum(size > 1 for size in passes)
        after = ids_of(items)
        assert num_large >= 2 and len(passes) == len(after)  # a word in each pass
        assert 240 < computed(items) < 420

        # the same by hand: words in the old context, the insertion in place, words in the new one
        cache = LOADED.model.new_cache()
        old = Prompter(LOADED.tokens, AGENT, ASK, "insert")
        old.read(first)
        pieces = old.build()
        _greedy_in(cache, join(pieces), [None] * len(join(pieces)), len(before) + num_large)
        own = cache.ids[len(join(pieces)) :]
        old.wrote("", tuple(own))
        old.read(second)
        pieces_with_own = [*pieces[:-1], Piece(pieces[-1].key, tuple(own))]
        sources = match_pieces(pieces_with_own, old.build())
        sources[-1] = None
        _greedy_in(cache, join(old.build()), sources, len(after) - num_large)
        assert cache.ids[-len(before) - len(after) :] == [*before, *after]

    on_model(act)


def test_a_large_insertion_outlasts_the_write_that_began_it() -> None:
    async def act(backend: TorchBackend) -> None:
        session = await backend.open(AGENT, ASK)
        await session.read([chunk("p1", "deep"), chunk("p2", "red")])
        await write(session, 6)
        await session.read([chunk("p1", " and wide" * 60, True)])
        items = [await write(session, 1)]
        assert session._track.ahead is not None
        items.append(await write(session, 1))
        await session.read([chunk("p2", " as a rose", True)])
        items.append(await write(session, 20))
        assert session._track.ahead is None
        usage = ended(items[-1]).usage
        assert usage is not None
        assert 260 < sum(map(computed, items)) < 460 < usage.prompt_tokens

    on_model(act)


def _greedy_in(cache: Any, ids: list[int], sources: list[int | None], count: int) -> None:
    """Bring a cache to some ids and let the model write on."""
    cache.rearrange(ids, sources)
    for _ in range(count):
        cache.append(int(run_all(LOADED.model, cache).argmax()))


def test_a_writer_keeps_writing_while_another_reads_a_long_prompt() -> None:
    async def act(backend: TorchBackend) -> None:
        writer, reader = await backend.open(WRITER, ASK), await backend.open(WRITER, question("why " * 250))
        order: list[str] = []

        async def follow(name: str, session: TorchSession) -> None:
            async for item in session.write(30):
                if isinstance(item, Delta):
                    order.append(name)

        async with aclosing(writer.write(5)) as items:
            async for _ in items:
                pass
        await asyncio.gather(follow("writer", writer), follow("reader", reader))
        assert order[:4] == ["writer"] * 4

    on_model(act)


def test_a_closed_model_fails_in_words_and_hangs_nobody() -> None:
    async def main() -> None:
        async with open_model() as model:
            session = await TorchBackend(model, "tiny").open(WRITER, ASK)
            writing = asyncio.ensure_future(write(session, 1000))
            await asyncio.sleep(0.02)
        assert ended(await writing).reason in ("stopped", "limit", "length")

    asyncio.run(main())


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match=r"no config\.json"):
            await TorchModel(tmp_path).start()

    asyncio.run(main())
