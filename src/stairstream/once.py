"""Asks once: opens a pipeline, asks, and closes it. `ask` and `stream`, for plain code, and their async twins.

Plain code may be called where a loop is running, as in a notebook: the run then has a thread and a loop of its own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from stairstream.api import Answer, open_pipeline
from stairstream.config.schema import Config
from stairstream.conversations.reading import Messages, read_conversation
from stairstream.core.graph import Graph
from stairstream.core.messages import Conversation, check_question
from stairstream.core.policy import Policy

T = TypeVar("T")


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
    with _running_in_thread(run.answer()) as done:
        return done.result()


def stream(
    conversation: Messages,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> "Words":
    """The answer word by word, for code that is not async: `for word in stream("Why?"): ...`.

    The arguments are those of ask_async. Leaving the loop early cancels the run and closes every call to a model.
    Also works in a notebook, where a loop is already running.
    """
    return Words(_Run(_read(conversation), pipeline, config, policy))


def stream_async(
    conversation: Messages,
    pipeline: str | Graph | None = None,
    *,
    config: Config | str | Path | None = None,
    policy: Policy | str | None = None,
) -> "AsyncWords":
    """Like stream, for `async for`. Leaving the loop early cancels the run in the next turn of the event loop."""
    return AsyncWords(_Run(_read(conversation), pipeline, config, policy))


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

    async def tell(self, hear: Callable[[str], None]) -> Answer:
        """Hands each word to `hear` as it comes; returns the whole. Raises RunFailed if the answer broke off."""
        async with (
            open_pipeline(self.pipeline, config=self.config, policy=self.policy) as opened,
            opened.open_run(self.conversation) as run,
        ):
            async for word in run.words():
                hear(word)
            return opened.make_answer(run, run.past)


class Words:
    """The words of an answer, each as it comes. Every loop asks anew; `answer` is the whole of the last one.

    A loop raises RunFailed after the last word if the answer broke off.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run
        self.answer: Answer | None = None
        """The answer with its numbers, once a loop has come to its end."""

    def __iter__(self) -> Iterator[str]:
        self.answer = None
        words: SimpleQueue[str | None] = SimpleQueue()
        with _running_in_thread(self._run.tell(words.put)) as done:
            done.add_done_callback(lambda _: words.put(None))
            while (word := words.get()) is not None:
                yield word
            self.answer = done.result()


class AsyncWords:
    """As Words, for `async for`."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self.answer: Answer | None = None
        """The answer with its numbers, once a loop has come to its end."""

    async def __aiter__(self) -> AsyncIterator[str]:
        self.answer = None
        words: asyncio.Queue[str | None] = asyncio.Queue()
        # a generator may be closed by another task, so no block of tasks can be around its yield
        task = asyncio.create_task(self._run.tell(words.put_nowait))
        task.add_done_callback(lambda _: words.put_nowait(None))
        try:
            while (word := await words.get()) is not None:
                yield word
            self.answer = await task
        finally:
            task.cancel()
            await asyncio.wait([task])


@contextmanager
def _running_in_thread(work: Coroutine[Any, Any, T]) -> Iterator[Future[T]]:
    """The work on a loop of its own in a thread of its own; leaving the block cancels it and waits for its end."""
    done: Future[T] = Future()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        started.set_result((asyncio.get_running_loop(), task))
        return await work

    def run() -> None:
        try:
            done.set_result(asyncio.run(main()))
        except BaseException as exc:
            done.set_exception(exc)

    thread = threading.Thread(target=run, name="stairstream-run")
    thread.start()
    try:
        yield done
    finally:
        if not done.done():
            loop, task = started.result()
            with suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
