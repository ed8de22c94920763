"""Durable runs whose holders die, in virtual time: each dies at its moment, and another continues its journal."""

import asyncio
from collections.abc import Callable, Sequence

from stairstream.core.journal import Entry
from stairstream.engine.resuming import Resumed
from stairstream.engine.run import Run
from stairstream.sim.prove.case import Deaths
from stairstream.sim.prove.played import Holder, Played
from stairstream.sim.prove.stage import Stage, open_case
from stairstream.sim.prove.tape import TAPE, Tape


async def survive(played: Played, deaths: Deaths) -> None:
    """The whole run, through all its holders, with a client that follows it from one to the next."""
    loop, heard = asyncio.get_running_loop(), played.heard
    heard.append([])
    for after in (*deaths.after, None):
        holder = Holder(len(played.entries), loop.time(), Tape())
        played.holders.append(holder)
        one = await _hold(played, holder, _Journal(played.entries, deaths.commit_s, after))
        if not one.is_lost:
            break
        holder.is_lost = True
        await asyncio.sleep(deaths.away_s)
    played.events = [entry.event for entry in played.entries if entry.is_shown]


async def _hold(played: Played, holder: Holder, journal: "_Journal") -> Run:
    """One holder, to its death or to the run's end."""
    TAPE.set(holder.tape)
    stage, heard = Stage(played.case), played.heard[0]
    resumed = Resumed(entries=tuple(played.entries), at_s=holder.start_s) if played.entries else None
    async with open_case(played.case, stage, journal, resumed) as one:
        async for batch in one.batches(len(heard)):
            heard.extend(batch)
    played.left_over += [*holder.tape.left_over(), *stage.left_over()]
    return one


class _Journal:
    """Keeps what is written, until its holder dies."""

    def __init__(self, entries: list[Entry], commit_s: float, after: int | None) -> None:
        self._entries = entries
        self._commit_s = commit_s
        self._after = after
        self._waiting: list[Entry] = []
        self._is_dead = False

    def begin(self, show: Callable[[int], None], lose: Callable[[], None]) -> None:
        self._show, self._lose = show, lose

    def write(self, entry: Entry) -> None:
        self._waiting.append(entry)
        if not self._commit_s:
            self._commit()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(self._commit_s, self._commit)

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._is_dead:
            return
        if self._after is not None and len(self._entries) + len(waiting) > self._after:
            self._is_dead = True
            self._lose()
            return
        self._entries.extend(waiting)
        self._show(len(waiting))


def texts_before(entries: Sequence[Entry], agent: str, *, is_thinking: bool = False) -> str:
    """The words of an agent, or its thoughts, that entries of a journal have."""
    kind = "Thought" if is_thinking else "Wrote"
    return "".join(text for event, text, _ in entries if type(event).__name__ == kind and event.agent == agent)  # type: ignore[union-attr]
