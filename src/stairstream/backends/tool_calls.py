"""Calls of tools as endpoints send them, made even: whole or in pieces, with or without index and id."""

import uuid
from collections.abc import Sequence

import msgspec

from stairstream.core.session import ToolDelta
from stairstream.core.tokens import estimate_delta


class RawFunction(msgspec.Struct):
    """What is called; `arguments` grow piece by piece."""

    name: str | None = None
    arguments: str | None = None


class RawCall(msgspec.Struct):
    """One call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: RawFunction | None = None


class CallFinder:
    """Tells the calls of one answer apart: by index, or by id where that is missing or always the same."""

    __slots__ = ("_calls", "_places", "num_tokens")

    def __init__(self) -> None:
        self._calls: list[str | None] = []  # the ids that the endpoint gave
        self._places: dict[int, int] = {}  # its index to ours
        self.num_tokens = 0

    def take(self, pieces: Sequence[RawCall]) -> list[ToolDelta]:
        """What these pieces add. Every call gets an id, of ours where the endpoint gives none."""
        found = []
        for piece in pieces:
            function = piece.function or RawFunction()
            place = self._find(piece, function)
            is_new = place == len(self._calls)
            if is_new:
                self._calls.append(piece.id)
                if piece.index is not None:
                    self._places[piece.index] = place
            arguments = function.arguments or ""
            if not (is_new or arguments):
                continue
            count = estimate_delta(arguments) + (estimate_delta(function.name or "") if is_new else 0)
            self.num_tokens += count
            found.append(
                ToolDelta(
                    index=place,
                    id=(piece.id or f"call_{uuid.uuid4().hex[:24]}") if is_new else None,
                    name=function.name or "" if is_new else None,
                    arguments=arguments,
                    num_tokens=count,
                    is_estimate=True,
                )
            )
        return found

    def _find(self, piece: RawCall, function: RawFunction) -> int:
        """Which call a piece belongs to; one behind the last for a new one."""
        last = len(self._calls) - 1
        if piece.index is None:
            is_more = last >= 0 and not function.name and piece.id in (None, self._calls[last])
            return last if is_more else last + 1
        place = self._places.get(piece.index, last + 1)
        if place <= last and function.name and piece.id and piece.id != self._calls[place]:
            return last + 1  # another call under the same index, as some endpoints number them
        return place
