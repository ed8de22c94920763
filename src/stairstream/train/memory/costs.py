"""The cost of a layer's pass, in bytes that are kept for its backward pass and in time; values only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

Key = tuple[str, int]
"""An operation of a layer: its name, and the how manieth of that name it is."""


class Numbering:
    """Gives the operations of one pass of a layer their keys.

    All attention is one: how often it is called, and by what name, depends on the samples of a row.
    """

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def key_of(self, operation: object) -> Key:
        """Of the operation that comes next."""
        name = str(operation)
        if "attention" in name:
            return ATTENTION
        self._counts[name] += 1
        return name, self._counts[name] - 1


ATTENTION: Key = ("attention", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """So many of a row: some whatever its length (weights that were cast), some per token, some per pair (masks)."""

    once: float = 0.0
    token: float = 0.0
    pair: float = 0.0

    def at(self, tokens: int) -> float:
        """Of a row of this number of tokens."""
        return self.once + tokens * (self.token + tokens * self.pair)

    def __add__(self, other: "Bytes") -> "Bytes":
        return Bytes(once=self.once + other.once, token=self.token + other.token, pair=self.pair + other.pair)

    def times(self, share: float) -> "Bytes":
        """A share of it."""
        return Bytes(once=self.once * share, token=self.token * share, pair=self.pair * share)

    @classmethod
    def through(cls, lengths: Sequence[int], counts: Sequence[float]) -> "Bytes":
        """The one that goes through what was counted at three lengths."""
        (one, two, three), (low, mid, high) = lengths, counts
        first, second = (mid - low) / (two - one), (high - mid) / (three - two)
        pair = (second - first) / (three - one)
        token = first - pair * (one + two)
        return cls(once=low - one * (token + pair * one), token=token, pair=pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One whose result can be kept, or computed again in so many milliseconds."""

    key: Key
    ms: float
    size: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCosts:
    """Of one layer: what it keeps if nothing is computed again, its input, and the most that its backward pass needs
    at a time, all of what it keeps included. `operations` are those that full checkpointing runs again."""

    whole: Bytes = Bytes()
    entry: Bytes = Bytes()
    work: Bytes = Bytes()
    operations: tuple[Operation, ...] = ()

    def over(self, ranks: int) -> "LayerCosts":
        """Of a layer that so many ranks share: each has its share of the input and of all that is kept, besides the
        input of attention and of the feed-forward part, which are collected. Results that are kept one by one, and the
        work of the backward pass, are counted as if they were whole."""
        share = 1 / ranks
        return replace(
            self, entry=self.entry.times(share), whole=self.whole.times(share) + self.entry.times(2 * (1 - share))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCosts:
    """Of the head, and of the embedding if it is the same: weights, and what its logits are as wide as.

    `at_once`: of how many tokens there are logits at a time; None: of all that are learned. Unless it `learns` there
    are no gradients of weights.
    """

    weights: int = 0
    width: int = 0
    is_tied: bool = False
    at_once: int | None = None
    learns: bool = True

    def pass_bytes(self, learned: int) -> float:
        """The most that loss and backward pass need: logits with their logarithms and gradients in float32, or the
        weights' gradient after them, which is there with them where they come some at a time; the cast weights in any
        case."""
        grads = 6 * self.weights if self.learns else 0
        if self.at_once is not None:
            return 2 * self.weights + 12 * min(learned, self.at_once) * self.width + grads
        return 2 * self.weights + max(12 * learned * self.width, 2 * learned * self.width + grads)

    @property
    def carried_bytes(self) -> float:
        """While the layers are computed: a tied weight's gradient waits for that of the embedding."""
        return 4 * self.weights if self.is_tied and self.learns else 0

    @property
    def end_bytes(self) -> float:
        """After the layers: the embedding's gradient, and if it is tied the head's and their sum."""
        return (12 if self.is_tied else 4) * self.weights if self.learns else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Bytes of a network, whose layers are all alike: `fixed` whatever is learned, for weights and their state.

    `probed_tokens` is the length at which operations were timed; `can_offload`: there is a CPU beside the device.
    """

    num_layers: int
    fixed: float = 0.0
    layer: LayerCosts = LayerCosts()
    head: HeadCosts = HeadCosts()
    probed_tokens: int = 1
    can_offload: bool = False
