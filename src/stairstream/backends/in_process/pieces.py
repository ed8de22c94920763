"""A context as pieces of token ids, and what of an older context a newer one can keep. No torch here."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens of a context under a name that no other piece of it has; it may be longer in a later context.

    One that `looks_back`, as a question after what it is about, is worth computing again when that has grown.
    """

    key: Hashable
    ids: Ids
    looks_back: bool = False


def join(pieces: Iterable[Piece]) -> list[int]:
    """The ids of all pieces in order."""
    return [token for piece in pieces for token in piece.ids]


def match_prefix(old: Sequence[int], new: Sequence[int]) -> list[int | None]:
    """For each new token the old one that it is, as far as both begin alike."""
    shared = count_shared(old, new)
    return [*range(shared), *[None] * (len(new) - shared)]


def match_pieces(old: Sequence[Piece], new: Sequence[Piece]) -> list[int | None]:
    """For each new token the old one that it is, piece by piece; what is new between may stand anywhere.

    A piece keeps what it had; pieces that stand in another order than before keep nothing.
    """
    starts: dict[Hashable, tuple[int, Ids]] = {}
    start = 0
    for piece in old:
        starts[piece.key] = (start, piece.ids)
        start += len(piece.ids)
    found: list[int | None] = []
    covered = 0
    for piece in new:
        start, ids = starts.get(piece.key, (0, ()))
        shared = count_shared(ids, piece.ids) if start >= covered else 0
        found += range(start, start + shared)
        found += [None] * (len(piece.ids) - shared)
        covered = max(covered, start + shared)
    return found


def split_new(pieces: Sequence[Piece], sources: Sequence[int | None]) -> tuple[int, int]:
    """The numbers of new tokens of pieces with these sources: in those that look back, and in the others."""
    start = looking = others = 0
    for piece in pieces:
        num_new = sum(source is None for source in sources[start : start + len(piece.ids)])
        looking, others = (looking + num_new, others) if piece.looks_back else (looking, others + num_new)
        start += len(piece.ids)
    return looking, others


def look_again(pieces: Sequence[Piece], sources: Sequence[int | None]) -> list[int | None]:
    """The sources, with nothing kept of the pieces that look back."""
    looks = [piece.looks_back for piece in pieces for _ in piece.ids]
    return [None if looking else source for looking, source in zip(looks, sources, strict=True)]


def count_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens that both begin with."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
