"""Which layers keep what for their backward pass, so that a row fits and the least is computed twice: pure functions.

A *level* is what a layer may keep: its input alone, some results of operations besides, or everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.train.memory.costs import Bytes, Costs, Key, Operation

_LEAST_SHARE = 0.005
"""Of the time of a layer: operations that take less are always computed again, where anything is."""
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_TRANSFER_BYTES_PER_MS = 10e6
"""To a GPU and from it, as PCIe 4 gives at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The tensors that a layer keeps, how many bytes they are, and the milliseconds that are computed twice or moved.

    `kept` None: everything, with no checkpoint at all; empty: only its input, which `offloads` moves to the CPU.
    `share` is for compiled layers: how much of what the compiler would keep it may keep.
    """

    kept: frozenset[Key] | None
    size: Bytes
    ms: float = 0.0
    offloads: bool = False
    share: float = 1.0


def make_ladder(costs: Costs) -> tuple[Level, ...]:
    """Levels from the least that is kept to everything; each gains less time per byte than the one before it.

    What an operation's result costs and gains does not depend on which others are kept: the rest is computed again in
    any case. So those with the most time per byte come first.
    """
    layer, tokens = costs.layer, costs.probed_tokens
    level = Level(kept=frozenset(), size=layer.entry, ms=sum(one.ms for one in layer.operations))
    whole = Level(kept=None, size=layer.whole, ms=0.0)
    worthy = [one for one in layer.operations if one.ms > level.ms * _LEAST_SHARE and one.size.at(tokens) > 0]
    found = [level]
    for one in sorted(worthy, key=lambda one: -_gain(one, tokens)):
        level = Level(kept=(level.kept or frozenset()) | {one.key}, size=level.size + one.size, ms=level.ms - one.ms)
        found.append(level)
    while len(found) > 1 and not _bends(found[-2], found[-1], whole, tokens):
        found.pop()
    if costs.can_offload:
        moved = found[0].ms + 2 * layer.entry.at(tokens) / _TRANSFER_BYTES_PER_MS
        found.insert(0, Level(kept=frozenset(), size=Bytes(), ms=moved, offloads=True))
    return (*found, whole)


def make_compiled_ladder(costs: Costs) -> tuple[Level, ...]:
    """Levels for layers that are compiled, whose compiler chooses what it keeps within a share.

    Without a limit it keeps at most what a layer does that is not compiled; less, as a rule.
    """
    entry, whole = costs.layer.entry, costs.layer.whole
    took_ms = sum(one.ms for one in costs.layer.operations)
    return tuple(
        Level(kept=None, size=entry.times(1 - share) + whole.times(share), ms=took_ms * (1 - share), share=share)
        for share in _SHARES
    )


def _gain(one: Operation, tokens: int) -> float:
    return one.ms / one.size.at(tokens)


def _bends(first: Level, second: Level, third: Level, tokens: int) -> bool:
    """Whether the second gains more per byte than the third after it."""
    one, two, three = (level.size.at(tokens) for level in (first, second, third))
    return three > two and (first.ms - second.ms) / (two - one) > (second.ms - third.ms) / (three - two)


def full_of(ladder: Sequence[Level]) -> int:
    """The number of the level that keeps the input and nothing else."""
    return next(number for number, level in enumerate(ladder) if not level.offloads)


def peak(costs: Costs, sizes: Sequence[float], tokens: int, learned: int) -> float:
    """The most that a row needs if its layers keep so many bytes, the first layer's first.

    That is in the head, after all layers; or in the last layer's backward pass, when the head needs little any more;
    or in the embedding's, when the layers need nothing.
    """
    kept, head = sum(sizes), costs.head
    last = kept - sizes[-1] + costs.layer.work.at(tokens) + head.carried_bytes
    return costs.fixed + max(kept + head.pass_bytes(learned), last, head.end_bytes)


def plan(costs: Costs, ladder: Sequence[Level], tokens: int, learned: int, budget: float) -> tuple[int, ...]:
    """The level of each layer. All are raised by one before any is raised by two: that gains most per byte.

    The last layers are raised first: they are done first, and make room for the others' work. Where a row does not
    fit at all, all layers have the least level.
    """
    sizes = [level.size.at(tokens) for level in ladder]
    count, top = costs.num_layers, len(ladder) - 1

    def levels_of(raises: int) -> tuple[int, ...]:
        base, more = divmod(raises, count)
        return (base,) * (count - more) + (base + 1,) * more

    def fits(levels: Sequence[int]) -> bool:
        return peak(costs, [sizes[level] for level in levels], tokens, learned) <= budget

    low, high = 0, count * top
    while low < high:
        mid = (low + high + 1) // 2
        low, high = (mid, high) if fits(levels_of(mid)) else (low, mid - 1)
    levels = levels_of(low)
    free = (*levels[:-1], top)  # the last layer needs all of it at once in any case
    return free if fits(free) else levels
