"""Overlap: a session sees what it will read first while that is still being written, so that its prefill is hidden."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeGuard

from stairstream.core.session import Chunk
from stairstream.engine.log import Log

EVERY_TOKENS = 16


class ReadsAhead(Protocol):
    """A session that can compute parts of a prompt before it has to write."""

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        """Everything that the first read would bring now; a later call brings the same and more.

        Returns at once. What is computed must be exactly what the first write would compute.
        """


def can_read_ahead(session: object) -> TypeGuard[ReadsAhead]:
    """Whether a session computes parts of a prompt before it has to write (isinstance of a protocol takes 25 us)."""
    return getattr(session, "foresee", None) is not None


class Ahead:
    """Shows a session everything that its upstream has written, again whenever that has grown."""

    def __init__(self, session: ReadsAhead, upstream: Sequence[Log], peek: Callable[[], list[Chunk]]) -> None:
        self._session = session
        self._upstream = upstream
        self._peek = peek
        for log in upstream:
            self._watch(log)

    def _watch(self, log: Log) -> None:
        if not log.is_closed:
            log.watch(log.num_tokens + EVERY_TOKENS, self._show)

    def _show(self) -> None:
        for log in self._upstream:
            self._watch(log)
        if chunks := self._peek():
            self._session.foresee(chunks)

    def stop(self) -> None:
        """Show no more: the session reads now."""
        for log in self._upstream:
            log.unwatch(self._show)
