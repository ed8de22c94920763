"""Overlap: a session sees what it will read first while that is still being written, so that its prefill is hidden."""

from collections.abc import Callable, Sequence

from stairstream.backends.base import Session
from stairstream.core.session import Chunk
from stairstream.engine.log import Log

EVERY_TOKENS = 16


class Ahead:
    """Shows a session everything that its upstream has written, again whenever that has grown."""

    def __init__(self, session: Session, upstream: Sequence[Log], peek: Callable[[], list[Chunk]]) -> None:
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
