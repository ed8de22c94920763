"""Blocks of tasks out of which an error comes as it was raised, not wrapped in a group of one."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def task_block() -> AsyncIterator[asyncio.TaskGroup]:
    """As asyncio.TaskGroup; several errors at once stay a group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


@asynccontextmanager
async def working_beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """The work is cancelled when the block ends, and fails it if it fails."""
    async with task_block() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()
