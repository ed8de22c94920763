"""A log that follows another one and passes words on only up to an edge: of a word, a sentence, a section."""

from collections import deque
from dataclasses import replace

from stairstream.core.edges import EdgeFinder, Edges
from stairstream.core.session import Delta
from stairstream.engine.log import Log


def hold_to_edges(log: Log, edges: Edges, delimiter: str | None = None) -> Log:
    """A log that follows `log`, as readers with these edges see it: the same offsets, later; its end passes all."""
    if edges == "token":
        return log
    held = _HeldLog(log, EdgeFinder(edges, delimiter))
    log.follow(held.feed, held.passed.think, held.ask, held.release_all)
    return held.passed


class _HeldLog:
    def __init__(self, source: Log, finder: EdgeFinder) -> None:
        self._source = source
        self.passed = Log(source.agent, source)
        self._finder = finder
        self._pending: deque[Delta] = deque()

    def ask(self) -> None:
        self.passed.ask(self._source.heard_s)

    def feed(self, delta: Delta) -> None:
        self._pending.append(delta)
        self.passed.is_thinking = False
        complete = self._finder.feed(delta.text)
        while self._pending and len(self.passed) + len(self._pending[0].text) <= complete:
            self.passed.append(self._pending.popleft())
        inside = complete - len(self.passed)
        if inside > 0:
            self._split(inside)

    def _split(self, inside: int) -> None:
        """An edge within a delta of several tokens: its first part passes, with its share of the tokens."""
        delta = self._pending.popleft()
        if delta.num_tokens < 2:
            self._pending.appendleft(delta)
            return
        share = min(delta.num_tokens - 1, max(1, round(delta.num_tokens * inside / len(delta.text))))
        self.passed.append(replace(delta, text=delta.text[:inside], num_tokens=share, ids=None))
        rest = replace(delta, text=delta.text[inside:], num_tokens=delta.num_tokens - share, ids=None)
        self._pending.appendleft(rest)

    def release_all(self) -> None:
        for delta in self._pending:
            self.passed.append(delta)
        self._pending.clear()
        self.passed.close()
