"""What bounds a session: its context, a stop, a model that is closed or not there."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.backend import TorchBackend, TorchModel  # noqa: E402
from stairstream.core.errors import ConfigError, ContextTooLong  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import Layout, Note  # noqa: E402
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
    open_model,
    write,
)


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
        with pytest.raises(ContextTooLong, match="context_tokens"):
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
