"""An agent's output so far: append-only, many readers, closed once. The text is kept here and nowhere else."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from stairstream.core.session import Delta


@dataclass(slots=True)
class _Watch:
    """A reader's call, due when the log has `at_tokens` tokens or is closed."""

    at_tokens: float
    call: Callable[[], None]


class Log:
    """The words of one agent. Positions are numbers of deltas; offsets are characters; sizes are tokens."""

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.num_tokens = 0
        self.is_closed = False
        self._parts: list[str] = []
        self._ends = array("q")
        self._ids: list[tuple[int, ...] | None] = []
        self._watches: list[_Watch] = []
        self._next_watch: float = float("inf")

    def __len__(self) -> int:
        """Characters so far."""
        return self._ends[-1] if self._ends else 0

    @property
    def position(self) -> int:
        """Deltas so far."""
        return len(self._parts)

    def append(self, delta: Delta) -> tuple[int, int]:
        """Add a delta; returns its character offsets."""
        assert not self.is_closed, f"the log of {self.agent} is closed"
        start = self._ends[-1] if self._ends else 0
        end = start + len(delta.text)
        self._parts.append(delta.text)
        self._ends.append(end)
        self._ids.append(delta.ids)
        self.num_tokens += delta.num_tokens
        if self.num_tokens >= self._next_watch:
            self._call_watches()
        return start, end

    def close(self) -> None:
        """No more words will come. Closing twice is harmless."""
        if not self.is_closed:
            self.is_closed = True
            self._call_watches()

    def text(self, start: int = 0, end: int | None = None) -> str:
        """The characters [start, end)."""
        if end is None:
            end = len(self)
        if start >= end:
            return ""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._ends, end)
        base = self._ends[first - 1] if first else 0
        if first == last:
            return self._parts[first][start - base : end - base]
        return "".join(self._parts[first : last + 1])[start - base : end - base]

    def since(self, position: int) -> tuple[str, tuple[int, ...] | None]:
        """Text and token ids of the deltas from `position` on; ids are None unless every delta has them."""
        ids: list[int] = []
        for some in self._ids[position:]:
            if some is None:
                return "".join(self._parts[position:]), None
            ids.extend(some)
        return "".join(self._parts[position:]), tuple(ids) or None

    def watch(self, at_tokens: float, call: Callable[[], None]) -> None:
        """Call once, when there are `at_tokens` tokens or no more will come. Replaces the caller's earlier watch."""
        self.unwatch(call)
        self._watches.append(_Watch(at_tokens, call))
        self._next_watch = min(self._next_watch, at_tokens)

    def unwatch(self, call: Callable[[], None]) -> None:
        """Forget the caller's watch, if there is one."""
        self._watches = [watch for watch in self._watches if watch.call != call]
        self._next_watch = min((watch.at_tokens for watch in self._watches), default=float("inf"))

    def _call_watches(self) -> None:
        due = [watch for watch in self._watches if self.is_closed or watch.at_tokens <= self.num_tokens]
        self._watches = [watch for watch in self._watches if watch not in due]
        self._next_watch = min((watch.at_tokens for watch in self._watches), default=float("inf"))
        for watch in due:
            watch.call()
