"""Calls of tools as endpoints send them, made even: whole or in pieces, with or without index and id."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from stairstream.core.session import ToolDelta
from stairstream.core.surrogates import join_halves, scrub
from stairstream.core.tokens import estimate_delta


class RawFunction(msgspec.Struct):
    """The tool that is called; `arguments` grow piece by piece."""

    name: str | None = None
    arguments: str | None = None


class RawCall(msgspec.Struct):
    """One call, or a piece of one; Ollama's own has no function around name and arguments."""

    index: int | None = None
    id: str | None = None
    function: RawFunction | None = None
    name: str | None = None
    arguments: str | None = None


@dataclass(slots=True)
class _Call:
    """The known parts of one call. Its head waits for the first argument: until then a name may come in pieces."""

    id: str | None
    name: str = ""
    said: list[str] = field(default_factory=list)
    length: int = 0
    waiting: str = ""
    half: str = ""
    is_shown: bool = False

    def take_name(self, name: str) -> None:
        """A name: the first, the same again, a longer one, or more of it."""
        if not self.is_shown and name != self.name:
            self.name = name if name.startswith(self.name) else self.name + name

    def repeats(self, arguments: str) -> bool:
        """Whether a piece is the whole call once more."""
        may_be = len(arguments) == self.length and arguments.endswith("}")
        return may_be and arguments == "".join(self.said)


class CallFinder:
    """Tells the calls of one answer apart: by index, or by id where that is missing or always the same.

    `is_nameless` after `finish` if there is a call whose tool was never named.
    """

    __slots__ = ("_calls", "_ids", "_numbers", "_waiting", "is_nameless", "num_tokens")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._numbers: dict[int, int] = {}  # its index to ours
        self._ids: dict[str, int] = {}
        self._waiting: list[int] = []  # those of which nothing is shown so far
        self.num_tokens = 0
        self.is_nameless = False

    def take(self, pieces: Sequence[RawCall]) -> list[ToolDelta]:
        """The deltas that these pieces add. Every call gets an id, of ours where the endpoint gives none."""
        found: list[ToolDelta] = []
        for piece in pieces:
            function = piece.function or RawFunction(piece.name, piece.arguments)
            name, arguments = function.name or "", function.arguments or ""
            number = self._find(piece, name, arguments)
            if number == len(self._calls):
                found += self._show_heads()
                self._calls.append(_Call(piece.id))
                self._waiting.append(number)
                if piece.index is not None:
                    self._numbers[piece.index] = number
            call = self._calls[number]
            if name and arguments and call.repeats(arguments):
                continue
            if piece.id:
                call.id = call.id or piece.id
                self._ids.setdefault(piece.id, number)
            call.take_name(name)
            if arguments:
                call.said.append(arguments)
                call.length += len(arguments)
                text, call.half = join_halves(call.half, call.waiting + arguments)
                call.waiting = "" if call.name else text
                if call.name and text:
                    found.append(self._show(number, text))
        return found

    def finish(self) -> list[ToolDelta]:
        """The deltas that were held back when the answer ended."""
        found = self._show_heads()
        for number, call in enumerate(self._calls):
            if call.half and call.is_shown:
                found.append(self._show(number, scrub(call.half)))
                call.half = ""
        self.is_nameless = any(call.said and not call.name for call in self._calls)
        return found

    def _show_heads(self) -> list[ToolDelta]:
        """The heads of calls that have a name and, so far, no arguments."""
        waiting, self._waiting = self._waiting, []
        found = []
        for number in waiting:
            if self._calls[number].is_shown:
                continue
            if self._calls[number].name:
                found.append(self._show(number, ""))
            else:
                self._waiting.append(number)
        return found

    def _show(self, number: int, arguments: str) -> ToolDelta:
        call = self._calls[number]
        is_first, call.is_shown = not call.is_shown, True
        name = scrub(call.name) if is_first else None
        count = estimate_delta(arguments) + (estimate_delta(call.name) if is_first else 0)
        self.num_tokens += count
        return ToolDelta(
            index=number,
            id=(scrub(call.id or "") or f"call_{uuid.uuid4().hex[:24]}") if is_first else None,
            name=name,
            arguments=arguments,
            num_tokens=count,
            is_estimate=True,
        )

    def _find(self, piece: RawCall, name: str, arguments: str) -> int:
        """The number of the call that a piece belongs to; one after the last for a new one."""
        new, last = len(self._calls), len(self._calls) - 1
        known = self._ids.get(piece.id) if piece.id else None
        if piece.index is None:
            if known is not None or last < 0:
                return new if known is None else known
            same = self._calls[last]
            # only the first piece of a call has a name and an id that was not there before
            is_more = not piece.id and (not name or (not same.said and not same.is_shown))
            return last if is_more or (not same.id and not name and not same.said) else new
        number = self._numbers.get(piece.index, new if known is None else known)
        if number <= last and name and piece.id and self._calls[number].id not in (None, "", piece.id):
            # another call under the same index, as some endpoints number them
            return new if known is None else known
        return number
