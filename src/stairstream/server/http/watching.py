"""Reports every answered request to observers, which count or log it. Runs are reported elsewhere: see `Finished`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stairstream.server.http.exchange import AsgiApp, AsgiMessage, Receive, Scope, Send


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """A request that is over. `route` is the pattern that its path matches, None if no route does.

    `status` is None if the client disconnected before it was sent; `request_id` is the answer's `x-request-id`.
    """

    method: str
    route: str | None
    path: str
    status: int | None
    total_s: float
    request_id: str | None = None


class Watched:
    """The app, calling `observers` with each request that it has answered."""

    def __init__(self, app: AsgiApp, observers: Sequence[Callable[[AnsweredRequest], None]]) -> None:
        self._app = app
        self._observers = tuple(observers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock, status, request_id = asyncio.get_running_loop().time, None, None
        start_s = clock()

        async def send_seen(message: AsgiMessage) -> None:
            nonlocal status, request_id
            if status is None:
                status = message["status"]
                request_id = next((value for name, value in message["headers"] if name == b"x-request-id"), None)
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        finally:
            answered = AnsweredRequest(
                method=scope["method"],
                route=getattr(scope.get("route"), "path", None),
                path=scope["path"],
                status=status,
                total_s=clock() - start_s,
                request_id=request_id.decode() if request_id else None,
            )
            for observe in self._observers:
                observe(answered)
