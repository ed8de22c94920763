"""Blocks of tasks out of which an error comes as it was raised, not wrapped in a group of one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

Pick = Callable[[BaseExceptionGroup[BaseException]], BaseException]
"""The exception to raise for a group."""


def pick_only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group of one; several errors at once stay a group."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group


def pick_first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of any group."""
    return group.exceptions[0]


class TaskBlock(asyncio.TaskGroup):
    """As asyncio.TaskGroup, but raises what `pick` chooses of its group of errors; the block may set another one."""

    pick: Pick = staticmethod(pick_only)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cause: BaseException | None = None
        try:
            await super().__aexit__(kind, exc, traceback)
        except BaseExceptionGroup as group:
            # a reference cycle with the frame of TaskGroup (https://github.com/python/cpython/issues/124958)
            cause = self.pick(group.with_traceback(None))
        if cause is not None:  # outside the except block: the group is not its context
            try:
                raise cause
            finally:
                del cause, exc, traceback


@asynccontextmanager
async def working_beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """The work is cancelled when the block ends, and fails it if it fails."""
    async with TaskBlock() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()
