"""A handler beside a watch on its client: whoever leaves takes the handler with it, at once.

Starlette's StreamingResponse does not always notice: only `receive()` tells, and it must be asked all the time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from stairstream.server.http.exchange import ClientLeft, Receive

Beside = Callable[[Coroutine[Any, Any, None]], object]
"""Starts what runs beside a handler, and ends with it."""


@asynccontextmanager
async def leave_with_client(receive: Receive) -> AsyncIterator[Beside]:
    """Cancel the block as soon as the client leaves: then ClientLeft comes out of it.

    `receive` is the request's, its body having been read. The block ends with the last byte of the answer: behind
    that a server calls its client gone. What the block itself raises comes out as it was.
    """
    beside: list[asyncio.Task[None]] = []
    cause: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as tasks:

            def start(coroutine: Coroutine[Any, Any, None]) -> None:
                beside.append(tasks.create_task(coroutine))

            start(_watch(receive))
            try:
                yield start
            finally:
                while beside:  # what failed of them holds this frame
                    beside.pop().cancel()
    except BaseExceptionGroup as group:
        # TaskGroup's frame holds it, and it that frame (https://github.com/python/cpython/issues/124958)
        cause = _first_cause(group.with_traceback(None))
    if cause is not None:  # behind the block: the group that it came in is not its context
        try:
            raise cause
        finally:
            del cause


async def _watch(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientLeft


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to tell of several failures: the client's leaving last, for what else went wrong may have nothing to do
    with it."""
    return next((exc for exc in group.exceptions if not isinstance(exc, ClientLeft)), group.exceptions[0])
