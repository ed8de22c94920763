"""One session's caches in the batch: what it sees, and what it will see as soon as that is computed.

A small insertion is made in the context itself, and the next word waits for it. A larger one is made in a copy of the
context without the own words, while these continue in the old one; when the copy is complete it takes over, own words
and all.

What stands after the references, the question most of all, was computed when they were shorter. It is computed again
now and then, so that the answer is to the question with everything in sight.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.backends.in_process.pieces import Piece, join, look_again, match_pieces, match_prefix, split_new
from stairstream.backends.torch.cache import Cache
from stairstream.backends.torch.sampling import Sampler

_LOOKS_AGAIN_AFTER, _SOONER_AFTER = 6, 2
"""A piece that looks back is computed again when it has not seen so many times its own tokens; sooner where some of it
is new, as the sentence which says that all references are complete. So at most half as much again is computed."""


@dataclass(slots=True, eq=False)
class Track:
    """The cache of a session; `front` are the pieces before its last one, which is the session's own words.

    With `can_insert` what is new may come between what is kept; else only what stands before it is kept. With
    `is_adapted` it is computed with the adapter that stands beside the model's weights. `ahead` holds
    what will be the front, `ahead_front`, and is not complete yet. What looks back has not seen `num_unseen` tokens.
    """

    sampler: Sampler
    can_insert: bool
    is_adapted: bool = False
    cache: Cache | None = None
    front: Sequence[Piece] = ()
    own_key: object = None
    ahead: Cache | None = None
    ahead_front: Sequence[Piece] = ()
    num_unseen: int = 0

    def drop(self) -> None:
        """Forget everything that is cached."""
        self.cache = self.ahead = None
        self.front = self.ahead_front = ()
        self.num_unseen = 0

    def arrange(self, cache: Cache, pieces: Sequence[Piece], *, writes: bool, most_tokens: int) -> int:
        """Make the cache hold these pieces as far as they are there; returns how many tokens are to be computed.

        An insertion of more than `most_tokens` is only begun. If it `writes`, the last token is computed anew.
        """
        front, own = pieces[:-1], pieces[-1]
        if self.ahead is not None or (writes and own.ids and self._is_large(cache, front, most_tokens)):
            return self._open(cache, front, own)
        ids = join(pieces)
        if self.can_insert and self.front:
            sources = self._insert([*self.front, self._own(cache)], pieces)
        else:
            sources = match_prefix(cache.ids, ids)
        if writes:
            sources[-1] = None
        cache.rearrange(ids, sources)
        self.front, self.own_key = front, own.key
        return cache.num_missing

    def _insert(self, old: Sequence[Piece], new: Sequence[Piece]) -> list[int | None]:
        """The pieces that are kept at an insertion; of what looks back nothing, where that is due."""
        sources = match_pieces(old, new)
        num_looking = sum(len(piece.ids) for piece in new if piece.looks_back)
        looking, others = split_new(new, sources)
        self.num_unseen += others
        due = (_SOONER_AFTER if looking else _LOOKS_AGAIN_AFTER) * num_looking
        if self.num_unseen < due and looking < num_looking:
            return sources
        self.num_unseen = 0
        return look_again(new, sources)

    def _own(self, cache: Cache) -> Piece:
        return Piece(self.own_key, tuple(cache.ids[len(join(self.front)) :]))

    def _is_large(self, cache: Cache, front: Sequence[Piece], most_tokens: int) -> bool:
        if not (self.can_insert and self.front) or cache.num_leading < len(join(self.front)):
            return False
        return sum(source is None for source in match_pieces(self.front, front)) > most_tokens

    def _open(self, cache: Cache, front: Sequence[Piece], own: Piece) -> int:
        """Begin, or continue, an insertion beside the own words, which stand in the old context for now."""
        size = len(join(self.front))
        if self.ahead is None:
            self.ahead, self.ahead_front = cache.fork(size), self.front
        self.ahead.rearrange(join(front), self._insert(self.ahead_front, front))
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
