"""An answer in the layout `insert` as one sequence: what the torch session's cache computed, in that order.

The session's own track and cache say what is computed when, what is kept, and where everything then stands; the cache
has one layer, whose keys are positions and whose values are the numbers of tokens.
"""

from collections.abc import Sequence

import torch

from stairstream.backends.in_process.pieces import Ids, Piece
from stairstream.backends.torch.cache import Cache, Shape
from stairstream.backends.torch.sampling import Sampler
from stairstream.backends.torch.track import Track
from stairstream.core.graph import Sampling
from stairstream.train.sequences import Insertions, Pass, Sample

_SHAPE = Shape(num_layers=1, num_heads=1, head_size=1, dtype=torch.float64, device=torch.device("cpu"))


def lay_out_insertions(written: Sequence[tuple[Sequence[Piece], Ids]]) -> Sample:
    """The sample of an answer whose steps had these contexts before them and wrote these ids, at least one each."""
    cache = Cache(_SHAPE, lambda positions_LHND, shifts_N: positions_LHND + shifts_N[:, None])
    track = Track(sampler=Sampler(Sampling(), 0, None, None), can_insert=True)
    ids, positions, learned, passes = list[int](), list[int](), list[tuple[int, int]](), list[Pass]()
    own = set[int]()
    was_left_over = False  # a step's last word is computed with the step after it
    for number, (pieces, said) in enumerate(written):
        track.arrange(cache, pieces, writes=True, most_tokens=sum(len(piece.ids) for piece in pieces))
        is_last = number == len(written) - 1
        for token in said if is_last else said[:-1]:
            cache.append(token)
        start, claim = len(ids), cache.claim(cache.num_missing)
        ids += claim.ids
        positions += claim.positions
        end = len(ids)
        passes.append(_show(cache, start, end, claim.start, claim.end, claim.positions))
        cache.keep(claim)
        num_here = len(said) if is_last else len(said) - 1
        first = end - num_here - 1  # the token before the first new word
        own.update(range(first + (not was_left_over), end))
        learned += [(first + index, token) for index, token in enumerate(said)]
        was_left_over = not is_last
        if not is_last:
            cache.append(said[-1])
    return Sample(
        ids=tuple(ids),
        is_trained=tuple(number in own for number in range(len(ids))),
        insertions=Insertions(positions=tuple(positions), learned=tuple(learned), passes=tuple(passes)),
    )


def _show(cache: Cache, start: int, end: int, first: int, last: int, positions: Sequence[int]) -> Pass:
    """Put the tokens [start, end) into the room [first, last) of the cache; what it holds then."""
    at = torch.tensor(positions, dtype=torch.float64)[None, :, None]
    tokens = torch.arange(start, end, dtype=torch.float64)[None, :, None]
    at_HND, tokens_HND = cache.write(0, first, last, at, tokens)
    shown = tuple(tokens_HND.flatten().long().tolist())
    return Pass(start=start, end=end, shown=shown, at=tuple(at_HND.flatten().long().tolist()))
