"""A served pipeline for the vendors' own packages, which speak to it over a socket."""

import asyncio
from collections.abc import Awaitable, Callable

from stairstream.backends.scripted import Fault, Script
from stairstream.core.messages import ToolCall
from stairstream.server.fake.model import FakeModel
from tests.server.listening import Listening, listening_to

ASK = "Why is the sky blue?"
ANSWER = "Blue light scatters most, so the sky is blue."
CALL = ToolCall(id="call_1", name="weather", arguments='{"place": "Rome"}')
MISSING = "the extra `clients` is not installed"


def words_of(text: str) -> tuple[str, ...]:
    """A token per word."""
    first, *others = text.split(" ")
    return (first, *(f" {word}" for word in others))


def serve_to(main: Callable[[Listening], Awaitable[None]], fault: Fault | None = None) -> None:
    """Run what a client does against the pipelines `single` and `mix`; the answering model may have a fault."""
    proposed = Script(words=words_of("one two three four five six seven eight"), first_token_s=0.002, token_s=0.002)
    answer = Script(
        words=words_of(ANSWER),
        first_token_s=0.002,
        token_s=0.02,  # apart even on a busy machine
        tool_calls=(CALL,),
        before_calls=("Let me", " see."),
        fault=fault,
        caches_prefix=True,
    )
    models = [FakeModel(name=name, script=proposed) for name in ("p1", "p2", "p3")]

    async def go() -> None:
        async with listening_to(*models, FakeModel(name="m", script=answer)) as server:
            await main(server)

    asyncio.run(go())
