"""The turns of one request of vLLM: what they bring, and what of them stays in the cache. No vLLM here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Output:
    """The tokens just sampled, and why the turn ended; `num_cached` tokens of the first prompt were cached."""

    ids: Sequence[int]
    reason: Literal["stop", "length"] | None
    num_cached: int

    @property
    def words(self) -> Sequence[int]:
        """The tokens without the one that ends an answer."""
        return self.ids[:-1] if self.reason == "stop" else self.ids


@dataclass(slots=True)
class Held:
    """The tokens whose keys and values a resumable request keeps from turn to turn.

    The last token that a turn sampled is not among them: it was never computed, and vLLM drops it. So it is given back
    as the first token of the next turn, unless something else is to stand there.
    """

    ids: list[int] = field(default_factory=list)
    _last: int | None = None

    def sent(self, ids: Sequence[int]) -> None:
        """A turn begins, and these are computed first."""
        self.ids += ids
        self._last = None

    def sampled(self, ids: Sequence[int]) -> None:
        """Add what the turn in flight has written."""
        for token in ids:
            if self._last is not None:
                self.ids.append(self._last)
            self._last = token

    def rest_of(self, context: Sequence[int]) -> list[int] | None:
        """The ids to send so that all of a context is there; None if something else is."""
        size = len(self.ids)
        if len(context) <= size or list(context[:size]) != self.ids:
            return None
        return list(context[size:])
