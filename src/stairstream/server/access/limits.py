"""Room for runs at once in the whole server. Nothing here waits."""

import asyncio

from stairstream.server.errors import ApiError

BUSY_RETRY_S = 1
"""What a client is told to wait when all places are taken: nobody knows when one becomes free."""


class Places:
    """Room for so many runs at once, until it is closed for good."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._is_closed = False
        self._empty: asyncio.Future[None] | None = None

    @property
    def taken(self) -> int:
        """Runs under way."""
        return self._taken

    @property
    def is_closed(self) -> bool:
        """Whether no run is let in any more."""
        return self._is_closed

    def take(self) -> None:
        """Take a place; ApiError 503 if there is none."""
        if self._is_closed:
            raise _unavailable("the server is stopping and takes no more requests; try another", "stopping")
        if self._taken >= self._most:
            raise _unavailable(f"the server is busy with {self._taken} runs, and takes no more at once", "busy")
        self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        self._taken -= 1
        if not self._taken and self._empty is not None:
            self._empty.set_result(None)
            self._empty = None

    def close(self) -> None:
        """Let nobody in from now on; who is in may stay."""
        self._is_closed = True

    async def wait_empty(self) -> None:
        """Until every run has ended."""
        while self._taken:
            if self._empty is None:
                self._empty = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._empty)


def _unavailable(message: str, code: str) -> ApiError:
    headers = {"retry-after": str(BUSY_RETRY_S)}
    return ApiError(status=503, message=message, kind="server_error", code=code, headers=headers)
