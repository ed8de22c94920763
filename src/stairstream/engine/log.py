"""An agent's output so far: append-only, many readers, closed once. The text is kept here and nowhere else."""

import heapq
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from stairstream.core.events import Reading
from stairstream.core.outlook import Speech
from stairstream.core.session import Chunk, Delta


@dataclass(slots=True)
class _Watch:
    """A reader's call, due once when the log has `at_tokens` tokens or is closed; None: not any more.

    It is made None before the call, which may set it anew.
    """

    call: Callable[[], None]
    at_tokens: float | None


@dataclass(frozen=True, slots=True)
class _Follower:
    feed: Callable[[Delta], None]
    think: Callable[[], None]
    ask: Callable[[], None]
    end: Callable[[], None]


class Log:
    """The words of one agent. Positions are numbers of deltas; offsets are characters; sizes are tokens."""

    __slots__ = (
        "__weakref__",
        "_due",
        "_ends",
        "_followers",
        "_ids",
        "_last_chunk",
        "_last_reading",
        "_last_start",
        "_listeners",
        "_marks",
        "_next_watch",
        "_num_watches",
        "_parts",
        "_token_ends",
        "_watches",
        "agent",
        "begun_s",
        "heard_s",
        "is_closed",
        "is_thinking",
        "num_tokens",
        "source",
    )

    def __init__(self, agent: str, source: "Log | None" = None) -> None:
        """`source` is the log that this one follows, if it shows only a part of another one."""
        self.agent = agent
        self.source = source
        self.heard_s = math.inf
        """When anything last came of its agent, or can come from; infinite while the agent is not in a call."""
        self.begun_s = math.inf
        """When its first words came."""
        self.num_tokens = 0
        self.is_closed = False
        self.is_thinking = False
        self._parts: list[str] = []
        self._ends = array("q")
        self._last_start = 0
        self._token_ends = array("q")
        self._ids: dict[int, tuple[int, ...]] = {}  # of the deltas that have them
        self._last_chunk: tuple[int, int, Chunk] | None = None
        self._last_reading: Reading | None = None
        self._watches: dict[Callable[[], None], _Watch] = {}
        self._due: dict[float, list[_Watch]] = {}  # by mark, also some that are watched no more
        self._marks: list[float] = []  # a heap: readers share most of them
        self._next_watch = math.inf
        self._listeners: list[Callable[[], None]] = []
        self._followers: list[_Follower] = []

    def speech(self) -> Speech | None:
        """When its agent began to speak, and last did; None if it is silent so far."""
        log = self.source or self
        return Speech(log.begun_s, log._token_ends[0], log.heard_s) if log._parts else None

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
        if delta.ids is not None:
            self._ids[len(self._parts)] = delta.ids
        self._parts.append(delta.text)
        self._last_start = start
        self._ends.append(end)
        self.num_tokens += delta.num_tokens
        self._token_ends.append(self.num_tokens)
        self.is_thinking = False
        for follower in self._followers:
            follower.feed(delta)
        if self.num_tokens >= self._next_watch:
            self._call_watches()
        return start, end

    def close(self) -> None:
        """No more words will come. Closing twice is harmless."""
        if not self.is_closed:
            self.is_closed = True
            self.is_thinking = False
            for follower in self._followers:
                follower.end()
            for watch in tuple(self._watches.values()):
                if watch.at_tokens is not None:
                    watch.at_tokens = None
                    watch.call()
            self._watches.clear()
            self._due.clear()
            self._marks.clear()
            self._listeners.clear()

    def think(self) -> None:
        """Its agent has thoughts that are not forwarded, and has said nothing yet; listeners want to know."""
        if not self.is_thinking and not self._parts and not self.is_closed:
            self.is_thinking = True
            for follower in self._followers:
                follower.think()
            self._call_listeners()

    def ask(self, at_s: float) -> None:
        """Its agent is in a call from now on: listeners want to know, as its silence counts from here."""
        self.heard_s = at_s
        for follower in self._followers:
            follower.ask()
        self._call_listeners()

    def follow(
        self,
        feed: Callable[[Delta], None],
        think: Callable[[], None],
        ask: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        """Pass on every delta, the beginning of thoughts, of calls, and the end, as they come; at once what is there.

        A log has something before it is followed only where a run is continued.
        """
        self._followers.append(_Follower(feed, think, ask, end))
        tokens = 0
        for number, (text, token_end) in enumerate(zip(self._parts, self._token_ends, strict=True)):
            feed(Delta(text, token_end - tokens, self._ids.get(number)))
            tokens = token_end
        if self.is_thinking:
            think()
        if self.is_closed:
            end()

    def text(self, start: int = 0, end: int | None = None) -> str:
        """The characters [start, end)."""
        if end is None:
            end = len(self)
        if start >= end:
            return ""
        if end == self._ends[-1] and start == self._last_start:
            return self._parts[-1]
        first = bisect_right(self._ends, start)
        last = bisect_left(self._ends, end)
        base = self._ends[first - 1] if first else 0
        if first == last:
            return self._parts[first][start - base : end - base]
        return "".join(self._parts[first : last + 1])[start - base : end - base]

    def between(self, position: int, end: int) -> tuple[str, tuple[int, ...] | None]:
        """Text and token ids of the deltas [position, end); ids are None unless every delta has them."""
        parts = self._parts[position:end]
        ids: list[int] = []
        for number in range(position, position + len(parts)):
            if (some := self._ids.get(number)) is None:
                return "".join(parts), None
            ids.extend(some)
        return "".join(parts), tuple(ids) or None

    def chunk(self, position: int, end: int, *, is_final: bool) -> Chunk:
        """The same as a chunk; readers that read in step share it."""
        last = self._last_chunk
        if last is not None and last[0] == position and last[1] == end and last[2].is_final == is_final:
            return last[2]
        text, ids = self.between(position, end)
        chunk = Chunk(agent=self.agent, text=text, ids=ids, is_final=is_final)
        self._last_chunk = position, end, chunk
        return chunk

    def reading(self, start: int, end: int, *, is_final: bool) -> Reading:
        """The characters up to `end`, of which those from `start` on are new; readers that read in step share it."""
        last = self._last_reading
        if last is None or last.end != end or last.start != start or last.is_final != is_final:
            last = self._last_reading = Reading(agent=self.agent, start=start, end=end, is_final=is_final)
        return last

    def position_at(self, tokens: float) -> int:
        """The largest number of deltas that together have at most that many tokens."""
        return bisect_right(self._token_ends, tokens)

    def position_of(self, offset: int) -> int:
        """The number of deltas that cover the first `offset` characters."""
        return bisect_left(self._ends, offset) + 1 if offset else 0

    def size_of(self, position: int) -> tuple[int, int]:
        """Characters and tokens of the first `position` deltas."""
        return (self._ends[position - 1], self._token_ends[position - 1]) if position else (0, 0)

    def watch(self, at_tokens: float, call: Callable[[], None]) -> None:
        """Call once, when there are `at_tokens` tokens or no more will come. Replaces the caller's earlier watch."""
        watch = self._watches.get(call)
        if watch is None:
            watch = self._watches[call] = _Watch(call, None)
        if watch.at_tokens != at_tokens:
            watch.at_tokens = at_tokens
            if at_tokens == math.inf:
                return
            due = self._due.get(at_tokens)
            if due is not None:
                due.append(watch)
                return
            self._due[at_tokens] = [watch]
            heapq.heappush(self._marks, at_tokens)
            self._next_watch = self._marks[0]

    def unwatch(self, call: Callable[[], None]) -> None:
        """Forget the caller's watch, if there is one."""
        if (watch := self._watches.pop(call, None)) is not None:
            watch.at_tokens = None

    def listen(self, call: Callable[[], None]) -> None:
        """Call whenever its agent begins a call, or to think, until the log is closed or the caller listens no more."""
        self._listeners.append(call)

    def unlisten(self, call: Callable[[], None]) -> None:
        """Call no more; harmless for one that does not listen."""
        self._listeners = [one for one in self._listeners if one is not call]

    def _call_watches(self) -> None:
        while self._marks and self._marks[0] <= self.num_tokens:
            at_tokens = heapq.heappop(self._marks)
            for watch in self._due.pop(at_tokens):
                if watch.at_tokens == at_tokens:
                    watch.at_tokens = None
                    watch.call()
        self._next_watch = self._marks[0] if self._marks else math.inf

    def _call_listeners(self) -> None:
        for call in tuple(self._listeners):
            call()
