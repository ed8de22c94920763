"""Group commit: the entries of all runs of a process are written together, the first words of an answer at once."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from stairstream.server.durable.contract import JournalledRun, JournalStore, Part
from stairstream.server.errors import StorageFailed

EVERY_S = 0.015
"""Least time between the beginnings of two commits."""
RETRY_S = 0.25
MOST_WAIT_S = 10.0
"""Time that words wait for a database that fails; then their runs are left to others, who buy again what came meanwhile
if only this process is cut off."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Writing:
    """One journal while this process writes it: entries that wait, and whom to tell."""

    run: str
    token: int
    num_kept: int
    show: Callable[[int], None]
    lose: Callable[[], None]
    begins: JournalledRun | None = None
    lines: list[bytes] = field(default_factory=list)
    is_last: bool = False


class GroupWriter:
    """Writes what it is given, in order, while `tend` runs."""

    def __init__(self, store: JournalStore, holder: str) -> None:
        """`holder` is this process, by a name of its own."""
        self._store = store
        self._holder = holder
        self._number = 0
        self._open: dict[str, Writing] = {}
        self._waiting: dict[str, Writing] = {}
        self._failing_s: float | None = None
        self._left: list[tuple[str, int]] = []
        self._has_work = asyncio.Event()
        self._is_urgent = asyncio.Event()

    def open(self, writing: Writing) -> None:
        """Begin a journal, or continue one; if this process has it open still, others had it meanwhile."""
        if (before := self._open.get(writing.run)) is not None:
            self._lose(before)
        self._open[writing.run] = writing

    def add(self, writing: Writing, line: bytes, *, is_urgent: bool) -> None:
        """Have a line written, with the next commit; if urgent, at once."""
        if not writing.lines:
            self._waiting[writing.run] = writing
            self._has_work.set()
        writing.lines.append(line)
        if is_urgent:
            self._is_urgent.set()

    def has(self, run: str, token: int) -> bool:
        """Whether the journal of that run is open here, by that token."""
        return (one := self._open.get(run)) is not None and one.token == token

    def take_left(self) -> list[tuple[str, int]]:
        """The runs, with their tokens, that could not be written any more: others are to have them."""
        left, self._left = self._left, []
        return left

    async def tend(self) -> None:
        """Write, until cancelled; the last lines are not lost, but not shown either."""
        loop = asyncio.get_running_loop()
        last_s = -EVERY_S
        while True:
            await self._has_work.wait()
            if (wait_s := last_s + EVERY_S - loop.time()) > 0 and not self._is_urgent.is_set():
                timer = loop.call_later(wait_s, self._is_urgent.set)
                await self._is_urgent.wait()
                timer.cancel()
            last_s = loop.time()
            self._has_work.clear()
            self._is_urgent.clear()
            await self._commit()

    async def _commit(self) -> None:
        """One commit of everything that waits; while the database fails, again."""
        writings, self._waiting = self._waiting, {}
        parts = [_part(one) for one in writings.values()]
        if (fenced := await self._append(parts)) is None:
            fenced = set(writings)
            self._left += [(one.run, one.token) for one in writings.values()]
        for one, part in zip(writings.values(), parts, strict=True):
            if one.run in fenced:
                self._lose(one)
            else:
                one.num_kept += part.num_entries
                if part.is_last:
                    self._open.pop(one.run, None)
                one.show(part.num_entries)

    def _lose(self, one: Writing) -> None:
        """Write nothing more of it, and not what came meanwhile: something before it was not written."""
        for known in (self._open, self._waiting):
            if known.get(one.run) is one:
                del known[one.run]
        one.lose()

    async def _append(self, parts: list[Part]) -> "set[str] | None":
        """The runs that this process has lost; None if nothing could be written."""
        loop = asyncio.get_running_loop()
        self._number += 1
        began_s = loop.time()
        while True:
            try:
                fenced = {*await self._store.append(self._holder, self._number, parts)}
            except StorageFailed as exc:
                if self._failing_s is None:
                    self._failing_s = began_s
                    _log.warning("words of durable runs wait: %s", exc)
                if not exc.may_pass or loop.time() >= self._failing_s + MOST_WAIT_S:
                    _log.error("%d durable runs are left to others: %s", len(parts), exc)
                    return None
                await asyncio.sleep(RETRY_S)
            else:
                if self._failing_s is not None:
                    waited_s, self._failing_s = loop.time() - self._failing_s, None
                    _log.warning("durable runs continue: their words have waited for %.1f s", waited_s)
                return fenced


def _part(one: Writing) -> Part:
    lines, one.lines = one.lines, []
    begins, one.begins = one.begins, None
    return Part(
        run=one.run,
        token=one.token,
        first=one.num_kept,
        num_entries=len(lines),
        lines=b"".join(lines),
        begins=begins,
        is_last=one.is_last,
    )
