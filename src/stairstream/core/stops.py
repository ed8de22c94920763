"""Stop strings, matched over the joined text of an answer: a match may begin in words of an earlier call."""

import re
from collections import deque
from collections.abc import Sequence


class StopFinder:
    """Passes text on until a stop string appears; holds back only what may be the beginning of one.

    What a character costs does not depend on how long the stop strings are, nor on how many.
    """

    __slots__ = ("_automaton", "_begins", "_held", "_num_held", "_state", "found")

    def __init__(self, stops: Sequence[str], written: str = "") -> None:
        stops = tuple(stop for stop in dict.fromkeys(stops) if stop)
        longest = max(map(len, stops), default=0)
        self._automaton = _Automaton(stops)
        self._begins = re.compile("|".join(re.escape(stop[0]) for stop in stops) or r"(?!)").search
        self._state = 0
        for char in written[max(0, len(written) - longest + 1) :]:
            self._state = self._automaton.after(self._state, char)
        self._held: deque[str] = deque()
        self._num_held = 0
        self.found: str | None = None
        """The stop string that has appeared."""

    @property
    def is_found(self) -> bool:
        """Whether one has appeared."""
        return self.found is not None

    def sees(self, text: str) -> bool:
        """Whether a stop string has appeared, with this text; for callers that only want to know when to end."""
        self.feed(text)
        return self.is_found

    def feed(self, text: str) -> str:
        """The text before the first stop string, less what may still become one."""
        if self.found is not None or not text:
            return ""
        if not self._state and not self._begins(text):
            return text
        self._held.append(text)
        self._num_held += len(text)
        end = self._look_through(text)
        if self.found is None:
            num_open = self._automaton.depths[self._state]
            return self._release(max(0, self._num_held - num_open))
        passed = self._release(max(0, self._num_held - len(text) + end - len(self.found)))
        self._held.clear()
        self._num_held = 0
        return passed

    def finish(self) -> str:
        """Returns the text that was held back, at the end of a stream that brought no stop string."""
        return self._release(self._num_held)

    def _look_through(self, text: str) -> int:
        """Continues to the end of the text, or of the first stop string; returns where that is."""
        after, rows, ends = self._automaton.after, self._automaton.rows, self._automaton.ends
        state, at, size = self._state, 0, len(text)
        while at < size:
            if not state:
                begin = self._begins(text, at)
                if begin is None:
                    break
                at = begin.start()
            char = text[at]
            at += 1
            known = rows[state].get(char)
            state = after(state, char) if known is None else known
            if ends[state] is not None:
                self.found = ends[state]
                break
        self._state = state
        return at

    def _release(self, size: int) -> str:
        """The first characters of what is held."""
        if not size:
            return ""
        passed: list[str] = []
        self._num_held -= size
        while size:
            part = self._held.popleft()
            if len(part) > size:
                self._held.appendleft(part[size:])
                part = part[:size]
            passed.append(part)
            size -= len(part)
        return "".join(passed)


class _Automaton:
    """Ends of the text so far (Aho and Corasick): a state is the longest one that a stop string begins with.

    States are numbers, 0 is none of it. They are made when a text first comes to them, so a long stop string costs
    nothing until then.
    """

    __slots__ = ("_falls", "_stops", "depths", "ends", "rows")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [sorted(stops, key=len)]
        """The stop strings that begin with it, the shortest first."""
        self._falls = [0]
        """The state of its longest end, without its first character, that a stop string begins with."""
        self.depths = [0]
        """Its length."""
        self.ends: list[str | None] = [None]
        """The longest stop string that it ends with."""
        self.rows: list[dict[str, int]] = [{}]
        """The states after it that are known, by character; after 0 only those that are not 0."""

    def after(self, state: int, char: str) -> int:
        """The state when a character more has come."""
        at = state
        while (found := self.rows[at].get(char)) is None:
            depth = self.depths[at]
            stops = [stop for stop in self._stops[at] if stop[depth : depth + 1] == char]
            if stops:
                found = self._make(at, char, stops)
            elif at:
                at = self._falls[at]
            else:
                found = 0
                break
        if state != at:
            self.rows[state][char] = found
        return found

    def _make(self, before: int, char: str, stops: list[str]) -> int:
        """The state after `before` in those stop strings."""
        fall, depth = self.after(self._falls[before], char) if before else 0, self.depths[before] + 1
        self.rows[before][char] = made = len(self.rows)
        self._stops.append(self._stops[before] if len(stops) == len(self._stops[before]) else stops)
        self._falls.append(fall)
        self.depths.append(depth)
        self.ends.append(stops[0] if len(stops[0]) == depth else self.ends[fall])
        self.rows.append({})
        return made
