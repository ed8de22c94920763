"""The words of an answer as an iterator, in plain code and in async code, over a run that is told word by word."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Hear = Callable[[str], None]
"""Called with each word as it comes."""
Tell = Callable[[Hear], Coroutine[Any, Any, T]]
"""Makes a run: hands over its words, and returns its result."""


class Words(Generic[T]):
    """The words of an answer, each as it comes. Every loop asks anew; `answer` is the whole of the last one.

    A loop raises RunFailed after the last word if the answer broke off. Leaving it early cancels the run.
    """

    def __init__(self, tell: Tell[T]) -> None:
        self._tell = tell
        self.answer: T | None = None
        """The answer with its numbers, once a loop has come to its end."""

    def __iter__(self) -> Iterator[str]:
        self.answer = None
        words: SimpleQueue[str | None] = SimpleQueue()
        with running_in_thread(self._tell(words.put)) as done:
            done.add_done_callback(lambda _: words.put(None))
            while (word := words.get()) is not None:
                yield word
            self.answer = done.result()


class AsyncWords(Generic[T]):
    """As Words, for `async for`."""

    def __init__(self, tell: Tell[T]) -> None:
        self._tell = tell
        self.answer: T | None = None
        """The answer with its numbers, once a loop has come to its end."""

    async def __aiter__(self) -> AsyncIterator[str]:
        self.answer = None
        words: asyncio.Queue[str | None] = asyncio.Queue()
        # a generator may be closed by another task, so no block of tasks can be around its yield
        task = asyncio.create_task(self._tell(words.put_nowait))
        task.add_done_callback(lambda _: words.put_nowait(None))
        try:
            while (word := await words.get()) is not None:
                yield word
            self.answer = await task
        finally:
            task.cancel()
            await asyncio.wait([task])


@contextmanager
def running_in_thread(work: Coroutine[Any, Any, T]) -> Iterator[Future[T]]:
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
