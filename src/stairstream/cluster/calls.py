"""The calls of an engine's deployment by a Serve handle. Ray's errors become ConnectionError here."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from stairstream.cluster.trunks import Batch


class HandleCalls:
    """As `dialling.EngineCalls` says."""

    def __init__(self, engine: str, handle: Any) -> None:
        self.engine = engine
        self._handle = handle

    async def attend(self, session: str, front: str, number: int) -> AsyncGenerator[str, None]:
        """Yields the tag of the replica that serves the channel; ends with the channel."""
        handle = self._handle.options(stream=True, session_id=session)
        answers = handle.attend.remote(front, number)
        try:
            with _translating():
                async for tag in answers:
                    yield tag
        finally:
            answers.cancel()

    async def carry(self, session: str, front: str, numbers: Sequence[int]) -> AsyncGenerator[Batch, None]:
        """Yields the frames of a replica."""
        batches = self._handle.options(stream=True, session_id=session).carry.remote(front, numbers)
        try:
            with _translating():
                async for batch in batches:
                    yield batch
        finally:
            batches.cancel()

    async def push(self, session: str, front: str, batch: Batch) -> None:
        """Returns when the replica has the frames."""
        with _translating():
            await self._handle.options(session_id=session).push.remote(front, batch)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (RayError, RayServeException) as exc:
        raise ConnectionError(_first_line(exc)) from exc


def _first_line(exc: Exception) -> str:
    """A few words: Ray's texts have the traceback of the other process, last line last."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return (lines[0] if lines else type(exc).__name__)[:200]
