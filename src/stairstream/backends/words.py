"""The words of an answer as text and as token ids, kept in step."""

from collections.abc import Sequence

from stairstream.core.seams import QuoteSeam
from stairstream.core.session import Delta
from stairstream.core.stops import StopFinder

Ids = tuple[int, ...]

_ECHO_TOKENS = 32
"""The number of its last words that stand again at the beginning of each later turn of the layout `rounds`.

So the next word follows what it continues, and not a request to continue; a small model keeps far more with it
(docs/retention.md). It takes an engine that continues from token ids.
"""


def echo_of(turns: Sequence[Sequence[int]]) -> Ids:
    """The words that the turn after these turns begins with again."""
    return tuple([token for turn in turns for token in turn][-_ECHO_TOKENS:])


class OwnWords:
    """The token ids of an answer so far, turn by turn; the first ones were there before the first turn."""

    def __init__(self, before: Ids = ()) -> None:
        self._turns = [list(before)]

    def begin_turn(self) -> None:
        """Note that what comes now was written after another read."""
        self._turns.append([])

    def add(self, ids: Ids) -> None:
        """More words of the present turn."""
        self._turns[-1] += ids

    def all(self) -> Ids:
        """All ids in order."""
        return tuple(id for turn in self._turns for id in turn)

    def by_turn(self) -> list[Ids]:
        """The ids of each turn that has some, without those from before the first."""
        return [tuple(turn) for turn in self._turns[1:] if turn]


class DeltaMaker:
    """Makes deltas of what a completion brings, up to a stop string, less what the seam of a quote takes away.

    A delta has ids where its text is that of whole tokens.
    """

    def __init__(self, stops: StopFinder, seam: QuoteSeam | None = None) -> None:
        self._stops = stops
        self._seam = seam
        self._text = ""
        self._ids: list[int] = []

    @property
    def is_at_stop(self) -> bool:
        """Whether a stop sequence ended the answer."""
        return self._stops.is_found

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.found

    def feed(self, text: str, ids: Ids) -> Delta | None:
        """The delta that these tokens complete, if any."""
        self._text += text
        self._ids += ids
        return self._make(self._seam.feed(text) if self._seam else text)

    def finish(self) -> Delta | None:
        """The text that was still held back when the completion is over."""
        return self._make(self._seam.finish() if self._seam else "")

    def _make(self, passed: str) -> Delta | None:
        if not passed:
            return None
        self._stops.sees(passed)
        delta = Delta(passed, max(1, len(self._ids)), tuple(self._ids) if passed == self._text else None)
        self._text, self._ids = "", []
        return delta
