"""Durable runs whose holders die, in virtual time: each dies at a random moment, and another continues its journal."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from stairstream.backends.base import Backend
from stairstream.core.events import Event
from stairstream.core.journal import Entry
from stairstream.core.messages import question
from stairstream.engine.resuming import Resumed
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import Deadlock, run
from stairstream.sim.prove.case import PRICE, Case
from stairstream.sim.prove.drawing import draw_case
from stairstream.sim.prove.players import Player
from stairstream.sim.prove.running import QUESTION, open_calls, wrap
from stairstream.sim.prove.tape import Tape


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """A case whose holder dies once its journal has so many entries, again and again; another comes after `away_s`.

    Entries are kept together, `commit_s` after the first of them; a holder that dies has not kept the last ones.
    """

    case: Case
    after: tuple[int, ...] = ()
    away_s: float = 0.0
    commit_s: float = 0.0


@dataclass(slots=True)
class Holder:
    """One process's part: where it began in the journal, when, and what passed between it and its sessions."""

    start: int
    start_s: float
    tape: Tape
    is_lost: bool = False


@dataclass(slots=True)
class Survived:
    """The outcome. `heard` are the events that a client had which followed the run from holder to holder."""

    deaths: Deaths
    entries: list[Entry] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    holders: list[Holder] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    broken: str | None = None

    @property
    def shown(self) -> list[Event]:
        """The journal's events, as readers see them."""
        return [entry.event for entry in self.entries if entry.is_shown]


def draw_deaths(seed: int) -> Deaths:
    """Deaths of a seed, at any moment of the run that its case would have without."""
    rng = random.Random(f"deaths {seed}")
    case = replace(draw_case(seed), leaves_s=None, shut_down_s=None, clients=())
    commit_s = rng.choice((0.0, 0.0, 0.02, 0.25))
    num_entries = len(survive(Deaths(case=case, commit_s=commit_s)).entries)
    after = sorted(rng.randrange(1, max(2, num_entries)) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    return Deaths(case=case, after=tuple(after), away_s=rng.choice((0.0, 0.5, 3.0)), commit_s=commit_s)


def survive(deaths: Deaths) -> Survived:
    """The whole run, through all its holders."""
    survived = Survived(deaths)
    try:
        run(_survive(deaths, survived))
    except Deadlock as exc:
        survived.broken = f"deadlock: {exc}"
    except Exception as exc:
        survived.broken = f"{type(exc).__name__}: {exc}"
    return survived


async def _survive(deaths: Deaths, survived: Survived) -> None:
    loop = asyncio.get_running_loop()
    for after in (*deaths.after, None):
        holder = Holder(len(survived.entries), loop.time(), Tape())
        survived.holders.append(holder)
        one = await _hold(deaths, survived, holder, after)
        if not one.is_lost:
            return
        holder.is_lost = True
        await asyncio.sleep(deaths.away_s)


async def _hold(deaths: Deaths, survived: Survived, holder: Holder, after: int | None) -> Run:
    """One holder, to its death or to the run's end."""
    case, tape = deaths.case, holder.tape
    players = {name: Player(model, tape) for name, model in case.models.items()}
    backends: dict[str, Backend] = {name: wrap(case, player, tape, []) for name, player in players.items()}
    resumed = Resumed(entries=tuple(survived.entries), at_s=holder.start_s) if survived.entries else None
    async with open_run(
        case.graph,
        question(QUESTION),
        backends,
        deadline_s=case.deadline_s,
        prices=dict.fromkeys(case.models, PRICE),
        max_cost=case.max_cost,
        pace=case.pace,
        written=case.written,
        journal=_Journal(survived.entries, deaths.commit_s, after),
        resumed=resumed,
    ) as one:
        async for batch in one.batches(len(survived.heard)):
            survived.heard.extend(batch)
    survived.left_over += open_calls(players, tape, [])
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
