"""A context as pieces of token ids, and what of an older context a newer one can keep. No torch here."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens of a context under a name that no other piece of it has; it may be longer in a later context.

    One that `looks_back`, as a question behind what it is about, is worth computing anew when that has grown.
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

    A piece keeps what it had; pieces that stand in another order than before keep nothing, and those that look back
    keep nothing if at least as many tokens are new: what is computed in all is then at most twice what is new.
    """
    starts: dict[Hashable, tuple[int, Ids]] = {}
    start = 0
    for piece in old:
        starts[piece.key] = (start, piece.ids)
        start += len(piece.ids)
    found: list[int | None] = []
    behind = num_new = 0
    num_looking = sum(len(piece.ids) for piece in new if piece.looks_back)
    for piece in new:
        start, ids = starts.get(piece.key, (0, ()))
        shared = count_shared(ids, piece.ids) if start >= behind else 0
        if not piece.looks_back:
            num_new += len(piece.ids) - shared
        elif num_new >= num_looking:
            shared = 0
        found += range(start, start + shared)
        found += [None] * (len(piece.ids) - shared)
        behind = max(behind, start + shared)
    return found


def count_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
