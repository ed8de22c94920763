"""Stop strings, matched over the joined text of an answer: a match may begin in words of an earlier call."""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence


class StopFinder:
    """Passes text on until a stop string appears; holds back only what may be the beginning of one.

    Text that continues as a stop string does is compared with it at once, and where to continue after a mismatch is
    kept: so long stop strings, and several that begin alike, cost a token little more than short ones.
    """

    __slots__ = ("_begins", "_branch", "_depth", "_held", "_num_held", "_root", "found")

    def __init__(self, stops: Sequence[str], written: str = "") -> None:
        stops = sorted({stop for stop in stops if stop}, key=len)
        self._begins = re.compile("|".join(re.escape(stop[0]) for stop in stops) or r"(?!)")
        self._branch = self._root = _Branch(stops, stops)
        self._depth = 0
        """Characters of the longest end of the text so far that a stop string begins with: the branch's first ones."""
        self._held: deque[str] = deque()
        self._num_held = 0
        self.found: str | None = None
        """The stop string that has appeared."""
        if stops and written:
            self.pass_by(written[max(0, len(written) - len(stops[-1]) + 1) :])

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
        if not self._depth and not self._begins.search(text):
            return text
        self._held.append(text)
        self._num_held += len(text)
        end = self._look_through(text)
        if self.found is None:
            num_free = self._num_held - self._depth
            return self._release(num_free) if num_free > 0 else ""
        passed = self._release(max(0, self._num_held - len(text) + end - len(self.found)))
        self._held.clear()
        self._num_held = 0
        return passed

    def pass_by(self, text: str) -> None:
        """Text that has been shown already: a stop string wholly in it is no match, but one may begin in it."""
        while text:
            text = text[self._look_through(text) :]
        self.found = None

    def finish(self) -> str:
        """Returns the text that was held back, at the end of a stream that brought no stop string."""
        return self._release(self._num_held)

    def _look_through(self, text: str) -> int:
        """Continues to the end of the text, or of the first stop string; returns where that is."""
        branch, depth, at, size = self._branch, self._depth, 0, len(text)
        while at < size:
            if not depth:
                begin = self._begins.search(text, at)
                if begin is None:
                    at = size
                    break
                at = begin.start()
            stem, num_clear = branch.stem, branch.num_clear
            if depth + size - at <= num_clear and stem.startswith(text[at:], depth):
                depth, at = depth + size - at, size
                break
            while depth < num_clear and at < size and text[at] == stem[depth]:
                depth, at = depth + 1, at + 1
            if at == size:
                break
            if depth >= num_clear and text[at] == stem[depth : depth + 1]:
                pass
            elif depth == len(stem) and text[at] in branch.nexts:
                branch = branch.nexts[text[at]]
            else:
                branch, depth = branch.shorter.get(depth) or self._find_shorter(branch, depth)
                continue
            depth, at = depth + 1, at + 1
            if stop := branch.ending(depth):
                self.found = stop
                break
        self._branch, self._depth = branch, depth
        return at

    def _find_shorter(self, branch: "_Branch", depth: int) -> tuple["_Branch", int]:
        """The next shorter end of the text that a stop string begins with, as Knuth, Morris and Pratt have it."""
        found, stem = (self._root, 0), branch.stem
        for begin in self._begins.finditer(stem, 1, depth):
            at = begin.start()
            if self._root.find(stem[at : min(at + _GLANCE, depth)]) and (shorter := self._root.find(stem[at:depth])):
                found = shorter, depth - at
                break
        branch.shorter[depth] = found
        return found

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


_GLANCE = 32
"""Characters that are compared before a longer text is copied."""


class _Branch:
    """Stop strings that begin alike, and where they part: a tree in which a long stop string is one comparison."""

    __slots__ = ("_stops", "nexts", "num_clear", "shorter", "stem")

    def __init__(self, stops: Sequence[str], alike: Sequence[str]) -> None:
        self._stops = stops
        first, last = min(alike, default=""), max(alike, default="")
        parts = bisect_left(range(min(len(first), len(last))), True, key=lambda at: first[: at + 1] != last[: at + 1])
        self.stem = first[:parts]
        """The beginning that all of them have."""
        ends = [at + len(stop) for stop in stops if (at := self.stem.find(stop)) >= 0]
        self.num_clear = min(ends, default=parts + 1) - 1
        """Characters of the stem in which no stop string ends."""
        after = dict.fromkeys(stop[parts] for stop in alike if len(stop) > parts)
        self.nexts = {char: _Branch(stops, [stop for stop in alike if stop.startswith(char, parts)]) for char in after}
        """Those that continue after the stem, by their next character."""
        self.shorter: dict[int, tuple[_Branch, int]] = {}
        """By a number of the stem's characters: the longest end of these, without the first, that one begins with."""

    def ending(self, depth: int) -> str | None:
        """The longest stop string that ends after so many characters of the stem."""
        return next((stop for stop in reversed(self._stops) if self.stem.endswith(stop, 0, depth)), None)

    def find(self, text: str) -> "_Branch | None":
        """The branch of the stop strings that begin with it."""
        branch: _Branch | None = self
        while branch is not None and len(branch.stem) < len(text):
            branch = branch.nexts.get(text[len(branch.stem)])
        return branch if branch is not None and branch.stem.startswith(text) else None
