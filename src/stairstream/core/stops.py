"""Stop strings, matched over the joined text of an answer: a match may begin in words of an earlier call."""

import re
from collections import deque
from collections.abc import Sequence


class StopFinder:
    """Passes text on until a stop string appears; holds back only what may be the beginning of one.

    What a character costs does not depend on how long the stop strings are.
    """

    __slots__ = ("_begins", "_held", "_matchers", "_num_held", "_num_open", "found")

    def __init__(self, stops: Sequence[str], written: str = "") -> None:
        self._matchers = tuple(_Matcher(stop, written) for stop in dict.fromkeys(stops) if stop)
        self._begins = re.compile("|".join(re.escape(one.stop[0]) for one in self._matchers) or r"(?!)").search
        self._num_open = max([one.num_open for one in self._matchers], default=0)
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
        if not self._num_open and not self._begins(text):
            return text
        self._held.append(text)
        self._num_held += len(text)
        self._num_open = 0
        ends: list[tuple[int, int, str]] = []
        for one in self._matchers:
            if (end := one.feed(text)) is not None:
                ends.append((end, -len(one.stop), one.stop))
            elif one.num_open > self._num_open:
                self._num_open = one.num_open
        if not ends:
            return self._release(max(0, self._num_held - self._num_open))
        end, _, self.found = min(ends)  # the match that ends first; of several the longest
        passed = self._release(max(0, self._num_held - len(text) + end - len(self.found)))
        self._held.clear()
        self._num_held = 0
        return passed

    def finish(self) -> str:
        """Returns the text that was held back, at the end of a stream that brought no stop string."""
        return self._release(self._num_held)

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


class _Matcher:
    """Finds one stop string (Knuth, Morris and Pratt): knows how much of it the text so far ends with.

    Its table of borders grows with the longest beginning that the text has had, so a long stop string costs nothing
    until then.
    """

    __slots__ = ("_borders", "num_open", "stop")

    def __init__(self, stop: str, written: str) -> None:
        self.stop = stop
        self._borders = [0, 0]
        """The length of the longest end of the first n characters that the stop string begins with, but not all n."""
        self.num_open = 0
        """Length of the longest end of the text that the stop string begins with."""
        self.feed(written[max(0, len(written) - len(stop) + 1) :])

    def feed(self, text: str) -> int | None:
        """Takes more text in, up to the end of a match; returns where in the text that is, None if there is none."""
        stop, size, at = self.stop, self.num_open, 0
        if size and stop.startswith(text, size) and size + len(text) < len(stop):
            self.num_open = size + len(text)
            return None
        while at < len(text):
            if size == 0:
                at = text.find(stop[0], at)
                if at < 0:
                    break
            while size and stop[size] != text[at]:
                size = self._border(size)
            if stop[size] == text[at]:
                size += 1
            at += 1
            if size == len(stop):
                self.num_open = self._border(size)
                return at
        self.num_open = size
        return None

    def _border(self, size: int) -> int:
        """The border of the first `size` characters."""
        stop, borders = self.stop, self._borders
        while len(borders) <= size:
            last = stop[len(borders) - 1]
            border = borders[-1]
            while border and stop[border] != last:
                border = borders[border]
            borders.append(border + (stop[border] == last))
        return borders[size]
