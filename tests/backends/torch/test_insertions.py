"""Large insertions are made beside the words, and nobody waits for another's prompt."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.in_process.pieces import Piece, join, match_pieces  # noqa: E402
from stairstream.backends.in_process.prompting import Prompter  # noqa: E402
from stairstream.backends.torch.backend import TorchBackend  # noqa: E402
from stairstream.backends.torch.session import TorchSession  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import Delta  # noqa: E402
from tests.backends.torch.driving import (  # noqa: E402
    AGENT,
    ASK,
    LOADED,
    WRITER,
    chunk,
    computed,
    ended,
    ids_of,
    on_model,
    write,
)
from tests.backends.torch.tiny import run_all  # noqa: E402


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
