"""A text as tokens, which can be cut between any two tokens, but never inside a character."""

from bisect import bisect_right
from dataclasses import dataclass

from stairstream.backends.in_process.tokens import Speller, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelled:
    """The tokens of a text; after `ends[i]` of them the text's first `offsets[i]` characters are whole."""

    text: str
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    offsets: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    def between(self, start: int, end: int) -> tuple[str, tuple[int, ...]]:
        """Text and ids of the tokens [start, end); a token inside a character belongs to what follows."""
        first, last = (bisect_right(self.ends, position) - 1 for position in (start, end))
        return self.text[self.offsets[first] : self.offsets[last]], self.ids[self.ends[first] : self.ends[last]]


def spell(tokens: Tokens, text: str, most_tokens: int | None = None) -> Spelled:
    """A text in the tokens of a model, cut after the first `most_tokens` of them."""
    ids = tokens.encode(text)[:most_tokens]
    speller = Speller(tokens, ())
    ends, parts, offsets = [0], [""], [0]
    for number, token in enumerate(ids, 1):
        if part := speller.feed(token):
            ends.append(number)
            parts.append(part)
            offsets.append(offsets[-1] + len(part))
    return Spelled(text="".join(parts), ids=ids[: ends[-1]], ends=tuple(ends), offsets=tuple(offsets))
