"""The seam between the words that were sent and their continuation: text that comes twice is trimmed while it streams.

Text is held back only while it can still be a repeat; whatever the pieces, the same text comes out.
"""

import re
import unicodedata
from typing import Protocol

SHORTEST_REPEAT = 12
"""Characters from which on a repeat of the sent tail can't be chance."""

_ECHO_PIECES = 3
"""Pieces in which a server sends an echo at most; a model that says the same again sends it token by token."""

EDGE_TOKENS = 8
"""Tokens that a step of the layout `quoted` may write beyond its limit to end at a word edge."""

_UNSPACED = re.compile(
    "[\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Ideographs and kana; hangul has spaces."""

_FIRST_SYMBOL = "\u2190"
"""Symbols before the arrows, as the degree sign, follow a word without a space."""

_JOINING = frozenset("-/\u2010\u2011([{<\u201c\u2018\u00ab\u00bf\u00a1@#$\\")
"""Marks that the next word follows without a space. All others stood in front of one: a step ends at a word edge."""


class Seam(Protocol):
    """Filters the beginning of a continuation; once `is_settled`, everything passes and it can be dropped."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is decided."""

    @property
    def starts_over(self) -> bool:
        """Whether the answer has turned out to begin anew: nothing of it is to be shown."""

    @property
    def has_continued(self) -> bool:
        """Whether it surely continues the words before it."""

    def feed(self, text: str) -> str:
        """Takes in more text; returns the part that is certain to be new, so far."""

    def finish(self) -> str:
        """Returns the text that was still held back at the end of the stream."""


class PrefillSeam:
    """Tells text that continues a prefill from text that repeats it, and from an answer that starts over.

    A full echo is trimmed: some servers begin their answer with the text that it continues, in a piece or two. One that
    repeats it word for word (unless it is known that it `echoes`), or SHORTEST_REPEAT characters of its beginning and
    then ends or says something else, has started over: `starts_over`, and nothing of it passes.

    `is_new` says that the server was never seen to continue: then a capital letter right after a small one counts as a
    new beginning too. `has_continued` is set once the answer surely continued the prefill.
    """

    __slots__ = ("_echoes", "_held", "_is_new", "_num_pieces", "_prefill", "has_continued", "is_settled", "starts_over")

    def __init__(self, prefill: str, *, echoes: bool | None = None, is_new: bool = False) -> None:
        self._prefill = prefill
        self._echoes = echoes
        self._is_new = is_new
        self._held = ""
        self._num_pieces = 0
        self.starts_over = self.has_continued = False
        self.is_settled = not prefill

    def feed(self, text: str) -> str:
        if self.is_settled or not text:
            return "" if self.starts_over else text
        self._held += text
        self._num_pieces += 1
        if len(self._held) < len(self._prefill) and self._prefill.startswith(self._held):
            return ""
        return self._settle()

    def finish(self) -> str:
        return "" if self.is_settled else self._settle()

    def _settle(self) -> str:
        held, self._held, self.is_settled = self._held, "", True
        if held.startswith(self._prefill):
            is_word_for_word = self._num_pieces > _ECHO_PIECES and len(self._prefill) >= SHORTEST_REPEAT
            self.starts_over = is_word_for_word and not self._echoes
            new = held[len(self._prefill) :]
        else:
            self.starts_over = _count_shared(held, self._prefill) >= SHORTEST_REPEAT or self._is_new_turn(held)
            new = held
        self.has_continued = not self.starts_over and self._goes_on(new)
        return "" if self.starts_over else new

    def _is_new_turn(self, text: str) -> bool:
        return self._is_new and self._prefill[-1].islower() and text[:1].isupper()

    def _goes_on(self, text: str) -> bool:
        """Whether this can only be the next words: a new turn begins neither with a space nor in a word's middle."""
        return bool(text) and not self._prefill[-1].isspace() and (text[0].isspace() or text[0].islower())


class StrippedSeam:
    """Drops the white space that stands before the continuation already: it was left out of what was sent.

    `inner` is the seam for what was sent; None where nothing but white space was written.
    """

    __slots__ = ("_held", "_inner", "_is_done", "_stripped")

    def __init__(self, stripped: str, inner: Seam | None) -> None:
        self._stripped = stripped
        self._inner = inner
        self._held = ""
        self._is_done = not stripped

    @property
    def is_settled(self) -> bool:
        return self.starts_over or (self._is_done and (self._inner is None or self._inner.is_settled))

    @property
    def starts_over(self) -> bool:
        return self._inner is not None and self._inner.starts_over

    @property
    def has_continued(self) -> bool:
        return self._inner is not None and self._inner.has_continued

    def feed(self, text: str) -> str:
        return self._take(self._inner.feed(text) if self._inner else text)

    def finish(self) -> str:
        passed = self._take(self._inner.finish() if self._inner else "")
        return passed if self._is_done else self._settle()

    def _take(self, text: str) -> str:
        if self._is_done:
            return text
        self._held += text
        may_be_all = len(self._held) < len(self._stripped) and self._stripped.startswith(self._held)
        return "" if may_be_all else self._settle()

    def _settle(self) -> str:
        held, self._held, self._is_done = self._held, "", True
        return held[_count_shared(held, self._stripped) :]


def _count_shared(one: str, other: str) -> int:
    """Length of the beginning that both share, in characters."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class QuoteSeam:
    """Trims an exact repeat of the sent tail, for models that begin a new turn instead of continuing.

    The longest end of `sent`, of SHORTEST_REPEAT characters or more, that the continuation begins with is dropped,
    and nothing else. Without a repeat a new turn also lacks the space between two words: where `sent` ends in
    a word or a mark that closes one, and the continuation begins with a letter or digit, one is put between; not in
    scripts that are written without spaces.
    """

    __slots__ = ("_held", "_sent", "has_continued", "is_settled", "starts_over")

    def __init__(self, sent: str) -> None:
        self._sent = sent
        self._held = ""
        self.starts_over = self.has_continued = False
        self.is_settled = not sent

    def feed(self, text: str) -> str:
        if self.is_settled or not text:
            return text
        self._held += text
        return "" if self._may_become_repeat() else self._settle()

    def finish(self) -> str:
        return self._settle() if self._held else ""

    def _may_become_repeat(self) -> bool:
        """Whether some end of the sent text begins with all that is held and has more text after it."""
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
    is_emoji = after >= _FIRST_SYMBOL and unicodedata.category(after) == "So"
    if not (after.isalnum() or is_emoji) or _UNSPACED.match(after) or _UNSPACED.match(before):
        return False
    return not before.isspace() and before not in _JOINING


def begins_word(text: str) -> bool:
    """Whether a piece of text begins a new word, so that what stands before it ends at a word edge."""
    return text[:1].isspace()
