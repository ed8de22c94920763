"""The words of one call on their way from the wire to the engine: seams, the limit, a stop string, the word edge.

Pure: pieces in, deltas out. The common case, text that only has to pass, costs one addition and one join.
"""

from stairstream.backends.wire import Piece
from stairstream.core.seams import EDGE_TOKENS, Seam, begins_word
from stairstream.core.session import Delta, EndReason
from stairstream.core.stops import StopFinder


class Continuation:
    """Turns pieces into deltas, one per batch, until `reason` says why the call is to end.

    `ends_at_word` is for endpoints that can't continue inside a word: after the limit, or `end_soon`, it continues
    until the next piece begins a word, at most EDGE_TOKENS tokens. `is_told` says that the endpoint was told the same
    limit, and not one with room for thoughts: then it counts better than we.
    """

    __slots__ = (
        "_at_word_end",
        "_ending",
        "_ends_at_word",
        "_extra_tokens",
        "_held_characters",
        "_held_tokens",
        "_is_told",
        "_limit",
        "_seam",
        "_stops",
        "has_continued",
        "has_trimmed",
        "num_tokens",
        "reason",
        "starts_over",
    )

    def __init__(
        self, limit: int, seam: Seam | None, stops: StopFinder | None, ends_at_word: bool, is_told: bool = True
    ) -> None:
        self._limit = limit
        self._is_told = is_told
        self._seam = None if seam and seam.is_settled else seam
        self._stops = stops
        self._ends_at_word = ends_at_word
        self._ending: EndReason | None = None
        self._at_word_end = True
        self._extra_tokens = 0
        self._held_tokens = 0
        self._held_characters = 0
        self.num_tokens = 0
        self.reason: EndReason | None = None
        self.has_trimmed = False
        self.starts_over = self.has_continued = False

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.found if self._stops else None

    def end_soon(self) -> None:
        """End at the next word edge; at once where words don't matter or one has just ended."""
        self._ending = "stopped"
        if self.reason is None and (not self._ends_at_word or self._at_word_end):
            self.reason = "stopped"

    def take(self, pieces: list[Piece], is_exact: bool) -> Delta | None:
        """The deltas that these pieces add to the answer; pieces after the end are dropped."""
        if self._seam is None and self._stops is None and not self._ends_at_word:
            if len(pieces) == 1:
                text, count = pieces[0]
            else:
                text, count = "".join([piece[0] for piece in pieces]), sum([piece[1] for piece in pieces])
            if pieces and self.num_tokens + count <= self._limit:
                self.num_tokens += count
                return Delta(text, count, None, not is_exact)
        return self._take_slowly(pieces, is_exact)

    def finish(self) -> Delta | None:
        """The text that was still held back when the stream ended."""
        text = self._seam.finish() if self._seam else ""
        if self._seam:
            self._settle(self._seam)
        if not text:
            return None
        if self._stops and self._stops.sees(text):
            self.reason = "stop_string"
        count = self._release(text)
        self.num_tokens += count
        return Delta(text, count, None, True)

    def _take_slowly(self, pieces: list[Piece], is_exact: bool) -> Delta | None:
        texts, count = [], 0
        for piece in pieces:
            if self.reason or self.starts_over or self._is_after_end(piece, is_exact):
                break
            text, is_whole = self._filter(piece)
            if text:
                texts.append(text)
                new = self._release(text)
                count += new
                self.num_tokens += new
                is_exact = is_exact and is_whole
                self._at_word_end = text[-1].isspace()
                if self._stops and self._stops.sees(text):
                    self.reason = "stop_string"
        return Delta("".join(texts), count, None, not is_exact) if texts else None

    def _is_after_end(self, piece: Piece, is_exact: bool) -> bool:
        """Whether the call ends before this piece."""
        if self._ending is None and self.num_tokens < self._limit:
            return False
        self._ending = self._ending or "limit"
        if self._ends_at_word:
            is_over = self._at_word_end or begins_word(piece.text) or self._extra_tokens >= EDGE_TOKENS
            self._extra_tokens += piece.num_tokens
        else:
            # an estimate of ours that runs ahead of the endpoint's own count must not cost words
            is_over = is_exact or not self._is_told or self.num_tokens >= 2 * self._limit + EDGE_TOKENS
        if is_over:
            self.reason = self._ending
        return is_over

    def _filter(self, piece: Piece) -> tuple[str, bool]:
        """The text that passes now, and whether nothing but this piece, unchanged, makes it up."""
        self._held_tokens += piece.num_tokens
        self._held_characters += len(piece.text)
        text = piece.text
        if self._seam:
            text = self._seam.feed(text)
            if self._seam.is_settled:
                self._settle(self._seam)
        return text, len(text) == self._held_characters

    def _settle(self, seam: Seam) -> None:
        """It is decided what the beginning was."""
        self._seam = None
        self.starts_over, self.has_continued = seam.starts_over, seam.has_continued

    def _release(self, text: str) -> int:
        """Tokens of text that passes: what was held for it, in proportion where a part was trimmed."""
        share = len(text) / max(1, self._held_characters)
        self.has_trimmed = self.has_trimmed or share < 1
        count = max(1, round(self._held_tokens * min(1.0, share)))
        self._held_characters = self._held_tokens = 0
        return count
