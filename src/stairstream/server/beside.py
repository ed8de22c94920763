"""Work that runs beside a block for as long as the block lasts."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def working_beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """The work is cancelled when the block ends, and fails it if it fails. What the block raises stays as it was."""
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
