"""Asks once: opens a pipeline, asks, and closes it. `ask` and `stream`, for plain code, and their async twins.

Plain code may be called where a loop is running, as in a notebook: the run then has a thread and a loop of its own.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from stairstream.answer import Answer
from stairstream.api import open_pipeline
from stairstream.config.schema import Config
from stairstream.conversations.reading import Messages, read_conversation
from stairstream.core.graph import Graph
from stairstream.core.messages import Conversation, check_question
from stairstream.core.policy import Policy
from stairstream.words import AsyncWords, Hear, Words, running_in_thread


async def ask_async(
    conversation: Messages,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> Answer:
    """The whole answer to a question, or to a list of messages.

    Messages are dicts as the `openai` package has them, or `Message` values; the other arguments are those of
    open_pipeline. Raises RequestError for a conversation that is none, RunFailed if the answer broke off.
    """
    return await _Run(_read(conversation), pipeline, config, policy).answer()


def ask(
    conversation: Messages,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> Answer:
    """Like ask_async, for code that is not async; also works in a notebook, where a loop is already running."""
    run = _Run(_read(conversation), pipeline, config, policy)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run.answer())
    with running_in_thread(run.answer()) as done:
        return done.result()


def stream(
    conversation: Messages,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> Words[Answer]:
    """The answer word by word, for code that is not async: `for word in stream("Why?"): ...`.

    The arguments are those of ask_async. Leaving the loop early cancels the run and closes every call to a model.
    Also works in a notebook, where a loop is already running.
    """
    return Words(_Run(_read(conversation), pipeline, config, policy).tell)


def stream_async(
    conversation: Messages,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> AsyncWords[Answer]:
    """Like stream, for `async for`. Leaving the loop early cancels the run in the next turn of the event loop."""
    return AsyncWords(_Run(_read(conversation), pipeline, config, policy).tell)


def _read(conversation: Messages) -> Conversation:
    """The conversation, checked before a model is loaded for it."""
    read = read_conversation(conversation)
    check_question(read)
    return read


@dataclass(frozen=True, slots=True)
class _Run:
    """One run with its pipeline, ready to be made."""

    conversation: Conversation
    pipeline: str | Graph | None
    config: Config | str | Path | None
    policy: Policy | str | None

    async def answer(self) -> Answer:
        async with open_pipeline(self.pipeline, config=self.config, policy=self.policy) as opened:
            return await opened.ask(self.conversation)

    async def tell(self, hear: Hear) -> Answer:
        async with open_pipeline(self.pipeline, config=self.config, policy=self.policy) as opened:
            return await opened.tell(self.conversation, hear)
