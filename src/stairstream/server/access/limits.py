"""Room for runs at once in the whole server. Nothing here waits."""

import asyncio
from collections.abc import Callable

from stairstream.server.access.tally import Tally
from stairstream.server.errors import ApiError

BUSY_RETRY_S = 1
"""`Retry-After` of a busy server: when a permit becomes free is not known."""


class RunPermits:
    """Permits for at most `most` runs at once, until closed for good.

    With a `tally` these are the runs of all processes that have one.
    """

    def __init__(self, most: int, tally: Tally | None = None) -> None:
        self._most = most
        self._tally = tally
        self._taken = 0
        self._is_closed = False
        self._empty: asyncio.Future[None] | None = None
        self.on_change: Callable[[int], None] = lambda taken: None
        """Is told of the number of runs in flight whenever it changes."""

    @property
    def taken(self) -> int:
        """Number of runs in flight."""
        return self._taken

    @property
    def is_closed(self) -> bool:
        """Whether no run is admitted any more."""
        return self._is_closed

    def take(self) -> None:
        """Take a permit; ApiError 503 if there is none."""
        if self._is_closed:
            raise _unavailable("the server is stopping and takes no more requests; try another", "stopping")
        taken = self._taken + (0 if self._tally is None else self._tally.others())
        if taken >= self._most:
            raise _unavailable(f"the server is busy with {taken} runs, and takes no more at once", "busy")
        self._change(1)

    def give_back(self) -> None:
        """Give a permit back."""
        self._change(-1)
        if not self._taken and self._empty is not None:
            self._empty.set_result(None)
            self._empty = None

    def _change(self, by: int) -> None:
        self._taken += by
        if self._tally is not None:
            self._tally.write(self._taken)
        self.on_change(self._taken)

    def close(self) -> None:
        """Admit no run from now on; those in flight may end."""
        self._is_closed = True

    async def wait_empty(self) -> None:
        """Wait until every run has ended."""
        while self._taken:
            if self._empty is None:
                self._empty = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._empty)


def _unavailable(message: str, code: str) -> ApiError:
    headers = {"retry-after": str(BUSY_RETRY_S)}
    return ApiError(status=503, message=message, kind="server_error", code=code, headers=headers)
