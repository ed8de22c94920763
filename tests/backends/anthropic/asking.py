"""One request to a fake of the Messages API: its body and headers, and what came of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stairstream.backends.anthropic.backend import AnthropicBackend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.scripted import Fault, Script, numbered_words
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, question
from stairstream.core.session import Delta, Note, WriteItem
from stairstream.server.fake.model import FakeModel
from tests.backends.anthropic.fake import KEY, Asked, Body, serve_messages

WORDS = numbered_words("w", 12)
SCRIPT = Script(words=WORDS)
ASK = question("Why is the sky blue?")
ALONE = Agent(name="a", model="m")
READER = Agent(name="agg", model="m", reads=("p1", "p2"), instructions="Be brief.")


@asynccontextmanager
async def place(model: FakeModel | None = None, **options: Any) -> AsyncIterator[tuple[AnthropicBackend, Asked]]:
    model = model or FakeModel(name="m", script=SCRIPT, continues="prefill")
    with tempfile.TemporaryDirectory() as folder:
        async with aclosing(HttpPool()) as pool, serve_messages([model]) as asked:
            options = {"continues": "prefill", "base_url": asked.base_url, **options}
            capabilities = Capabilities(path=Path(folder) / "capabilities.json")
            yield AnthropicBackend(model="m", api_key=KEY, pool=pool, capabilities=capabilities, **options), asked


def ask(
    conversation: Conversation = ASK, agent: Agent = ALONE, written: str = "", limit: int = 100, **options: Any
) -> tuple[Body, Mapping[str, str], list[WriteItem]]:
    """The body that was sent for one write, its headers, and what came of it."""

    async def main() -> tuple[Body, Mapping[str, str], list[WriteItem]]:
        async with place(**options) as (backend, asked):
            session = await backend.open(agent, conversation, written)
            items = [item async for item in session.write(limit)]
            return asked.bodies[-1], asked.headers[-1], items

    return asyncio.run(main())


def fails(fault: Fault | None = None, **options: Any) -> BackendError:
    async def main() -> BackendError:
        script = Script(words=WORDS, fault=fault)
        model = FakeModel(name="m", script=script, continues="prefill", api_key=options.pop("api_key", None))
        async with place(model, **options) as (backend, _):
            session = await backend.open(ALONE, ASK)
            with pytest.raises(BackendError) as caught:
                _ = [item async for item in session.write(100)]
            return caught.value

    error = asyncio.run(main())
    assert KEY not in str(error) and "(m)" in str(error)
    return error


def text_of(items: list[WriteItem]) -> str:
    return "".join(item.text for item in items if isinstance(item, Delta) and not item.is_thinking)


def notes_of(items: list[WriteItem]) -> str:
    return " | ".join(item.text for item in items if isinstance(item, Note))
