"""Holds back the part of an answer that may still become a stop string, until that is decided."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from stairstream.core.session import Delta
from stairstream.core.stops import StopFinder


class HeldBack:
    """Passes deltas on up to the first stop string, wherever its pieces fall: also in several steps, or models.

    A delta is held whole, so that its tokens and ids stay true; only the one in which a stop string begins is cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._finder = StopFinder(stops)
        self._deltas: deque[Delta] = deque()
        self._num_passed = 0  # characters of what is held that are no part of a stop string
        self.num_tokens = 0

    @property
    def stop_string(self) -> str | None:
        """The stop string that has appeared: nothing more will pass."""
        return self._finder.found

    @property
    def text(self) -> str:
        """The text that is held."""
        return "".join(delta.text for delta in self._deltas)

    def feed(self, delta: Delta) -> Sequence[Delta]:
        """Takes a delta in; returns the deltas that may be shown now."""
        if self.stop_string is not None:
            return ()
        self._num_passed += len(self._finder.feed(delta.text))
        self._deltas.append(delta)
        self.num_tokens += delta.num_tokens
        passed: list[Delta] = []
        while self._deltas and self._num_passed >= len(self._deltas[0].text):
            passed.append(self._pop())
        if self.stop_string is not None:
            if self._num_passed:
                passed.append(_cut(self._deltas[0], self._num_passed))
            self._clear()
        return passed

    def restore(self, text: str) -> None:
        """Words that another process has shown: a stop string may begin in them."""
        self._finder.pass_by(text)

    def release(self) -> Sequence[Delta]:
        """All of it, as it has not become a stop string and no more words will come."""
        self._finder.finish()
        held = tuple(self._deltas)
        self._clear()
        return held

    def _pop(self) -> Delta:
        delta = self._deltas.popleft()
        self._num_passed -= len(delta.text)
        self.num_tokens -= delta.num_tokens
        return delta

    def _clear(self) -> None:
        self._deltas.clear()
        self._num_passed = self.num_tokens = 0


def _cut(delta: Delta, size: int) -> Delta:
    """Its first characters, with their share of its tokens."""
    num_tokens = max(1, round(delta.num_tokens * size / len(delta.text)))
    return replace(delta, text=delta.text[:size], num_tokens=num_tokens, ids=None)
