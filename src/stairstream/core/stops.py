"""Stop strings, matched over the joined text of an answer: a match may begin in words of an earlier call."""

from collections.abc import Sequence


class StopFinder:
    """Passes text on until a stop string appears; holds back only what may be the beginning of one."""

    __slots__ = ("_held", "_longest", "_stops", "_tail", "found")

    def __init__(self, stops: Sequence[str], written: str = "") -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._tail = self._cut_tail(written)
        self._held = ""
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
        new = self._held + text
        joined = self._tail + new
        if match := self._find(joined, len(joined) - len(text)):
            start, self.found = match
            self._held = ""
            return joined[len(self._tail) : start]
        kept = min(self._count_open(joined), len(new))
        passed, self._held = new[: len(new) - kept], new[len(new) - kept :]
        self._tail = self._cut_tail(self._tail + passed)
        return passed

    def finish(self) -> str:
        """Returns the text that was held back, at the end of a stream that brought no stop string."""
        held, self._held = self._held, ""
        self._tail = self._cut_tail(self._tail + held)
        return held

    def _cut_tail(self, text: str) -> str:
        return text[max(0, len(text) - self._longest + 1) :] if self._longest else ""

    def _find(self, joined: str, old: int) -> tuple[int, str] | None:
        """The match that ends first after the first `old` characters, and its beginning; the longest of several."""
        starts = [(joined.find(stop, max(0, old - len(stop) + 1)), stop) for stop in self._stops]
        first = min(((start + len(stop), start, stop) for start, stop in starts if start >= 0), default=None)
        return first[1:] if first else None

    def _count_open(self, joined: str) -> int:
        """Length of the longest end that a stop string begins with."""
        for size in range(min(self._longest - 1, len(joined)), 0, -1):
            end = joined[len(joined) - size :]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
