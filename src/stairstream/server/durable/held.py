"""The runs that a process holds, as far as it knows, so that an append need not ask for each of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stairstream.server.durable.contract import Part


@dataclass(slots=True)
class Held:
    """The tokens of runs by their ids, true as long as the database has the same `fence` for their holder."""

    fence: int = -1
    tokens: dict[str, int] = field(default_factory=dict)

    def replace(self, fence: int, rows: Iterable[tuple[str, int]]) -> None:
        """Take over the state of the database."""
        self.fence, self.tokens = fence, dict(rows)

    def mine(self, parts: Sequence[Part]) -> list[Part]:
        """The parts of runs that begin, or are held."""
        tokens = self.tokens
        return [one for one in parts if tokens.get(one.run) == one.token or one.begins is not None]

    def note(self, parts: Iterable[Part]) -> None:
        """These parts were written."""
        for one in parts:
            if one.is_last:
                self.tokens.pop(one.run, None)
            elif one.begins is not None:
                self.tokens[one.run] = one.token


def others(parts: Sequence[Part], kept: Sequence[Part]) -> set[str]:
    """The runs of parts that are not among these."""
    if len(kept) == len(parts):  # as nearly always
        return set()
    return {one.run for one in parts}.difference(one.run for one in kept)
