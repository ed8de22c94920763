"""One session's caches in the batch: what it sees, and what it will see as soon as that is computed.

A small insertion is made in place, and the next word waits for it. A larger one is made in a copy of the context
without the own words, while these go on in the old one; when the copy is complete it takes over, own words and all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.backends.torch.cache import Cache
from stairstream.backends.torch.pieces import Piece, join, match_pieces, match_prefix
from stairstream.backends.torch.sampling import Sampler


@dataclass(slots=True, eq=False)
class Track:
    """The cache of a session; `front` are the pieces before its last one, which is the session's own words.

    With `can_insert` what is new may come between what is kept; else only what stands before it is kept. `ahead` holds
    what will be the front, `ahead_front`, and is not complete yet.
    """

    sampler: Sampler
    can_insert: bool
    cache: Cache | None = None
    front: Sequence[Piece] = ()
    own_key: object = None
    ahead: Cache | None = None
    ahead_front: Sequence[Piece] = ()

    def drop(self) -> None:
        """Forget everything that is cached."""
        self.cache = self.ahead = None
        self.front = self.ahead_front = ()

    def arrange(self, cache: Cache, pieces: Sequence[Piece], *, writes: bool, most_tokens: int) -> int:
        """Make the cache hold these pieces as far as they are there; returns how many tokens are to be computed.

        An insertion of more than `most_tokens` is only begun. If it `writes`, the last token is computed anew.
        """
        front, own = pieces[:-1], pieces[-1]
        if self.ahead is not None or (writes and own.ids and self._is_large(cache, front, most_tokens)):
            return self._open(cache, front, own)
        ids = join(pieces)
        if self.can_insert and self.front:
            sources = match_pieces([*self.front, self._own(cache)], pieces)
        else:
            sources = match_prefix(cache.ids, ids)
        if writes:
            sources[-1] = None
        cache.rearrange(ids, sources)
        self.front, self.own_key = front, own.key
        return cache.num_missing

    def _own(self, cache: Cache) -> Piece:
        return Piece(self.own_key, tuple(cache.ids[len(join(self.front)) :]))

    def _is_large(self, cache: Cache, front: Sequence[Piece], most_tokens: int) -> bool:
        if not (self.can_insert and self.front) or cache.num_leading < len(join(self.front)):
            return False
        return sum(source is None for source in match_pieces(self.front, front)) > most_tokens

    def _open(self, cache: Cache, front: Sequence[Piece], own: Piece) -> int:
        """Begin, or go on with, an insertion beside the own words, which stand in the old context for now."""
        size = len(join(self.front))
        if self.ahead is None:
            self.ahead, self.ahead_front = cache.fork(size), self.front
        self.ahead.rearrange(join(front), match_pieces(self.ahead_front, front))
        self.ahead_front = front
        ids = [*cache.ids[:size], *own.ids]
        sources = match_prefix(cache.ids, ids)
        sources[-1] = None
        cache.rearrange(ids, sources)
        num_missing = self.ahead.num_missing + 1
        self.reveal()
        return num_missing

    def reveal(self) -> bool:
        """Let the own words see what was inserted beside them, if it is complete."""
        cache, ahead = self.cache, self.ahead
        if cache is None or ahead is None or ahead.num_missing:
            return False
        start, old_start = len(ahead.ids), len(join(self.front))
        own = cache.ids[old_start:]
        ahead.rearrange([*ahead.ids, *own], [*range(start), *[None] * len(own)])
        ahead.adopt(cache, {start + i: old_start + i for i in range(len(own) - 1)})  # the last one is computed anew
        self.cache, self.front = ahead, self.ahead_front
        self.ahead, self.ahead_front = None, ()
        return True
