"""The text of one answer, event by event, sorted into words and thoughts, each with the number of its tokens."""

import math
from typing import NamedTuple

from stairstream.core.session import Delta
from stairstream.core.surrogates import join_halves, scrub
from stairstream.core.thinking import LONGEST_CLOSE, ThoughtFinder, split_at_close
from stairstream.core.tokens import estimate_delta

_SPARE_TOKENS, _TOKENS_PER_CHARACTER = 8, 4
"""The most tokens that one text of the answer may have; those beyond were thoughts that were not shown."""

_SHORTEST_REPEAT = 8
_FIRST_PIECES = 8


class Piece(NamedTuple):
    """Text of one event with the number of its tokens, at least 1."""

    text: str
    num_tokens: int


class Sorter:
    """Takes texts, and gives pieces of words to the list that it is handed; thoughts gather in `thoughts`.

    Tokens are counted from continuous usage where the server gives it (`is_exact`), else estimated per event. With
    `finds_thoughts` what stands between tags at the answer's start is thoughts. With `withholds` the first words are
    held back until a closing tag shows that they were thoughts whose opening tag stood in the prompt, or until
    `let_go`; with `is_sure`, as the model always answers so, all words.
    """

    __slots__ = (
        "_finder",
        "_half",
        "_handed_tokens",
        "_held_tokens",
        "_most_withheld",
        "_said",
        "_tail",
        "found_lone_tag",
        "is_exact",
        "is_plain",
        "thinks_inline",
        "thoughts",
        "withheld",
    )

    def __init__(self, *, finds_thoughts: bool, withholds: bool, is_sure: bool = False) -> None:
        self._finder = ThoughtFinder() if finds_thoughts else None
        self.withheld: list[Piece] | None = [] if withholds else None
        self._most_withheld = math.inf if is_sure else _FIRST_PIECES
        self._tail = ""
        self._half = ""
        self._handed_tokens = self._held_tokens = 0
        self._said: list[str] = []
        self.thoughts: list[Piece] = []
        self.found_lone_tag = False
        self.thinks_inline = False
        self.is_exact = False
        self.is_plain = not (finds_thoughts or withholds)
        """Whether a text is a piece as it is."""

    @property
    def is_withholding(self) -> bool:
        """Whether there are words that wait for a closing tag."""
        return bool(self.withheld)

    @property
    def has_said(self) -> bool:
        """Whether there was any text but thoughts from a field of their own."""
        return bool(self._said)

    def take(self, text: str, total: int | None, pieces: list[Piece]) -> None:
        """Text of the answer; `total` are the tokens of all until now, where the endpoint says so."""
        self._said.append(text)
        if total is not None and 0 < (count := total - self._handed_tokens) <= _SPARE_TOKENS:
            self._handed_tokens, self.is_exact = total, True
        else:
            count = self._count(text, total, is_shown=True)
        piece = Piece(text, count)
        if self.is_plain:
            pieces.append(piece)
        else:
            self._sort(piece, pieces)

    def take_odd(self, text: str, total: int | None, pieces: list[Piece]) -> None:
        """The same for a text that may hold half a character: the half waits for its other."""
        text, half = join_halves(self._half, text)
        self._half = ""
        if text:
            self.take(text, total, pieces)
        self._half = half
        self._see_plain()

    def think(self, text: str, total: int | None, pieces: list[Piece]) -> None:
        """Thoughts in a field of their own: there is no tag to wait for."""
        self.let_go(pieces)
        self.thoughts.append(Piece(text, self._count(text, total, is_shown=False)))

    def repeats(self, text: str) -> bool:
        """Whether this is all that was said until now, once more."""
        may_be = len(text) >= max(_SHORTEST_REPEAT, len(self._said)) and len(self._said) > 1
        return may_be and text == "".join(self._said)

    def is_too_short_for(self, total: int | None) -> bool:
        """Whether so many tokens can't have been those of all texts."""
        return total is not None and total > _SPARE_TOKENS + _TOKENS_PER_CHARACTER * sum(map(len, self._said))

    def take_thoughts(self) -> Delta | None:
        """The thoughts that have gathered."""
        if not self.thoughts:
            return None
        thoughts, self.thoughts = self.thoughts, []
        text, count = "".join(piece.text for piece in thoughts), sum(piece.num_tokens for piece in thoughts)
        return Delta(text, count, is_estimate=not self.is_exact, is_thinking=True)

    def let_go(self, pieces: list[Piece]) -> None:
        """No closing tag will come any more: what was withheld are words."""
        withheld, self.withheld = self.withheld, None
        if withheld:
            pieces += withheld
        self._see_plain()

    def finish(self, pieces: list[Piece], *, is_cut: bool) -> None:
        """The answer is over: what was held back comes out, as thoughts if it was cut where no word was due yet."""
        if self._half:
            half, self._half = scrub(self._half), ""
            self.take(half, None, pieces)
        if self._finder is not None:
            finder, self._finder = self._finder, None
            self._hand_out(*finder.finish(), pieces)
        if is_cut and self.withheld and self._most_withheld == math.inf:
            self.thoughts += self.withheld
            self.withheld = None
        self.let_go(pieces)

    # Sorting

    def _sort(self, piece: Piece, pieces: list[Piece]) -> None:
        """Tokens of what is held back go with what comes out next."""
        if self._half:
            piece = Piece(scrub(self._half) + piece.text, piece.num_tokens)
            self._half = ""
        if self._finder is None:
            self._withhold(piece, pieces)
        else:
            self._find(piece, self._finder, pieces)
        self._see_plain()

    def _find(self, piece: Piece, finder: ThoughtFinder, pieces: list[Piece]) -> None:
        self._held_tokens += piece.num_tokens
        thought, words = finder.feed(piece.text)
        if finder.has_found:
            self.withheld = None
        self.thinks_inline = finder.has_found and not self.found_lone_tag
        self._hand_out(thought, words, pieces)
        if finder.is_settled:
            self._finder = None

    def _withhold(self, piece: Piece, pieces: list[Piece]) -> None:
        if self.withheld is None:
            pieces.append(piece)
            return
        self.withheld.append(piece)
        ending = self._tail + piece.text
        self._tail = ending[-LONGEST_CLOSE:]
        if split_at_close(ending) is None:
            if len(self.withheld) > self._most_withheld:
                self.let_go(pieces)
            return
        found = split_at_close("".join(one.text for one in self.withheld))
        assert found is not None, "a tag that is in the end of a text is in the text"
        self._held_tokens += sum(one.num_tokens for one in self.withheld)
        self.withheld, self.found_lone_tag = None, True
        thought, rest = found
        self._finder = ThoughtFinder(is_closed=True)
        _, words = self._finder.feed(rest)
        if self._finder.is_settled:
            self._finder = None
        self._hand_out(thought, words, pieces)

    def _hand_out(self, thought: str, words: str, pieces: list[Piece]) -> None:
        if not thought and not words:
            return
        tokens, self._held_tokens = max(1, self._held_tokens), 0
        of_thought = round(tokens * len(thought) / (len(thought) + len(words)))
        if thought:
            of_thought = max(1, of_thought)
            self.thoughts.append(Piece(thought, of_thought))
        if words:
            self._withhold(Piece(words, max(1, tokens - of_thought)), pieces)

    def _see_plain(self) -> None:
        self.is_plain = self._finder is None and self.withheld is None and not self._half

    def _count(self, text: str, total: int | None, *, is_shown: bool) -> int:
        """Tokens of one event's text; events without text leave theirs to the next."""
        if total is not None and total > self._handed_tokens:
            count, self._handed_tokens = total - self._handed_tokens, total
            self.is_exact = not is_shown or count <= _SPARE_TOKENS + _TOKENS_PER_CHARACTER * len(text)
            return count if self.is_exact else estimate_delta(text)
        count, self.is_exact = estimate_delta(text), False
        self._handed_tokens += count
        return count
