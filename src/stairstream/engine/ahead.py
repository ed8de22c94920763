"""Overlap: a session sees what it will read first while that is still being written, so that its prefill is hidden."""

from collections.abc import Callable, Sequence
from functools import partial

from stairstream.backends.base import Session
from stairstream.core.session import Chunk
from stairstream.engine.log import Log

EVERY_TOKENS = 16


class Ahead:
    """Shows a session everything that its upstream has written, again whenever one of it has grown since then."""

    def __init__(self, session: Session, upstream: Sequence[Log], peek: Callable[[], list[Chunk]]) -> None:
        self._session = session
        self._upstream = upstream
        self._peek = peek
        self._shown = [log.num_tokens for log in upstream]
        self._looks = [partial(self._look, i) for i in range(len(upstream))]
        for log, look in zip(upstream, self._looks, strict=True):
            if not log.is_closed:
                log.watch(log.num_tokens + EVERY_TOKENS, look)

    def _look(self, index: int) -> None:
        """A log has come as far as was asked, or has ended; others may have made it show that meanwhile."""
        log = self._upstream[index]
        if log.is_closed or log.num_tokens >= self._shown[index] + EVERY_TOKENS:
            self._show()
        if not log.is_closed:
            log.watch(self._shown[index] + EVERY_TOKENS, self._looks[index])

    def _show(self) -> None:
        self._shown = [log.num_tokens for log in self._upstream]
        if chunks := self._peek():
            self._session.foresee(chunks)

    def stop(self) -> None:
        """Show no more: the session reads now."""
        for log, look in zip(self._upstream, self._looks, strict=True):
            log.unwatch(look)
        self._looks.clear()  # they hold it
