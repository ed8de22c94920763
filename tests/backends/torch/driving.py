"""Sessions on a tiny model, and what their writes gave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.backend import TorchBackend, TorchModel  # noqa: E402
from stairstream.backends.torch.session import TorchSession  # noqa: E402
from stairstream.core.graph import Agent, Sampling  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import Chunk, Delta, Ended, WriteItem  # noqa: E402
from tests.backends.torch.tiny import make_loaded, make_network  # noqa: E402

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
