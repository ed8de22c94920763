"""A block that a replica holds open between its start and its end."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """A block that is entered and left by one task, as a TaskGroup in it wants, while others use what it gives."""

    def __init__(self, block: AbstractAsyncContextManager[T]) -> None:
        self._block = block
        self._closing = asyncio.Event()
        self._opened: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._live())

    async def opened(self) -> T:
        """Returns the value of the block, or raises what entering it has raised."""
        return await asyncio.shield(self._opened)

    @property
    def failure(self) -> BaseException | None:
        """The error that has ended the block, if it was not asked to end."""
        if self._closing.is_set() or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception() or RuntimeError("it has ended")

    async def aclose(self) -> None:
        """Leave the block, and return when it is left."""
        self._closing.set()
        await self._task

    async def _live(self) -> None:
        try:
            async with self._block as value:
                self._opened.set_result(value)
                await self._closing.wait()
        except Exception as exc:
            if self._opened.done():
                raise
            self._opened.set_exception(exc)
