"""Where a continuation meets the words that were sent: what comes twice is trimmed while it streams.

Text is held back only while it can still be a repeat; whatever the pieces, the same text comes out.
"""

import re
from typing import Protocol

SHORTEST_REPEAT = 12
"""Characters from which on a repeat of the sent tail can't be chance."""

EDGE_TOKENS = 8
"""How many tokens a step of the layout `quoted` may write beyond its limit to end at a word edge."""

_UNSPACED = re.compile(
    "[\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Ideographs and kana; hangul has spaces."""

_JOINING = frozenset("-/\u2010\u2011([{<\u201c\u2018\u00ab\u00bf\u00a1@#$\\")
"""Marks that the next word follows without a space. All others stood in front of one: a step ends at a word edge."""


class Seam(Protocol):
    """Filters the beginning of a continuation; once `is_settled`, everything passes and it can be dropped."""

    is_settled: bool

    def feed(self, text: str) -> str:
        """What is certain to be new, so far."""

    def finish(self) -> str:
        """What was still held back at the end of the stream."""


class EchoSeam:
    """Trims a full echo of the prefill: some servers begin their answer with the text that it continues.

    A continuation that begins with only a part of the prefill passes untouched.
    """

    __slots__ = ("_held", "_prefill", "is_settled")

    def __init__(self, prefill: str) -> None:
        self._prefill = prefill
        self._held = ""
        self.is_settled = not prefill

    def feed(self, text: str) -> str:
        if self.is_settled:
            return text
        self._held += text
        if len(self._held) < len(self._prefill) and self._prefill.startswith(self._held):
            return ""
        return self._settle(self._held.removeprefix(self._prefill))

    def finish(self) -> str:
        return self._settle(self._held.removeprefix(self._prefill) if not self.is_settled else "")

    def _settle(self, text: str) -> str:
        self.is_settled, self._held = True, ""
        return text


class QuoteSeam:
    """Trims an exact repeat of the sent tail, for models that begin a new turn instead of going on.

    The longest end of `sent`, of SHORTEST_REPEAT characters or more, that the continuation begins with is dropped,
    and nothing else. Without a repeat a new turn also lacks the space between two words: where `sent` ends in
    a word or a mark that closes one, and the continuation begins with a letter or digit, one is put between; not in
    scripts that are written without spaces.
    """

    __slots__ = ("_held", "_sent", "is_settled")

    def __init__(self, sent: str) -> None:
        self._sent = sent
        self._held = ""
        self.is_settled = not sent

    def feed(self, text: str) -> str:
        if self.is_settled or not text:
            return text
        self._held += text
        return "" if self._may_become_repeat() else self._settle()

    def finish(self) -> str:
        return self._settle() if self._held else ""

    def _may_become_repeat(self) -> bool:
        """Whether some end of the sent text begins with all that is held and goes on behind it."""
        start = self._sent.find(self._held, 0, len(self._sent) - 1)
        return 0 <= start <= len(self._sent) - SHORTEST_REPEAT

    def _settle(self) -> str:
        held, self._held, self.is_settled = self._held, "", True
        for size in range(min(len(held), len(self._sent)), SHORTEST_REPEAT - 1, -1):
            if self._sent.endswith(held[:size]):
                return held[size:]
        return " " + held if _needs_space(self._sent[-1], held[0]) else held


def _needs_space(before: str, after: str) -> bool:
    """Whether these two characters belong to two words that a space parts."""
    if not after.isalnum() or _UNSPACED.match(after) or _UNSPACED.match(before):
        return False
    return not before.isspace() and before not in _JOINING


def begins_word(text: str) -> bool:
    """Whether a piece of text begins a new word, so that what stands before it ends at a word edge."""
    return text[:1].isspace()
