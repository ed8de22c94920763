"""Cancels a handler as soon as its client disconnects.

Starlette's StreamingResponse does not always notice: only `receive()` tells, and it must be awaited all the time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from stairstream.engine.tasks import TaskBlock
from stairstream.server.http.exchange import ClientLeft, Receive

StartBeside = Callable[[Coroutine[Any, Any, None]], object]
"""Starts a coroutine that runs beside a handler, and is cancelled when the handler ends."""


@asynccontextmanager
async def leave_with_client(receive: Receive) -> AsyncIterator[StartBeside]:
    """Cancel the block as soon as the client disconnects; then it raises ClientLeft.

    The request's body must have been read. The block must end with the last byte of the answer: after it, the server
    reports every client as disconnected. What the block itself raises is raised unchanged.
    """
    beside: list[asyncio.Task[None]] = []
    async with TaskBlock() as tasks:
        tasks.pick = _pick_cause

        def start(coroutine: Coroutine[Any, Any, None]) -> None:
            beside.append(tasks.create_task(coroutine))

        start(_watch(receive))
        try:
            yield start
        finally:
            while beside:  # a failed task holds this frame
                beside.pop().cancel()


async def _watch(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientLeft


def _pick_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception to raise for a group: any other failure before ClientLeft, which need not be its cause."""
    return next((exc for exc in group.exceptions if not isinstance(exc, ClientLeft)), group.exceptions[0])
