"""The models of a case in their wrappers, with limits and engines, for all runs that are there at the same time."""

import random
from contextlib import AbstractAsyncContextManager

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying
from stairstream.backends.slots import Slots
from stairstream.core.messages import question
from stairstream.engine.resuming import Resumed
from stairstream.engine.run import Run, open_run
from stairstream.engine.write_ahead import Journal
from stairstream.sim.prove.case import PRICE, Case
from stairstream.sim.prove.players import PlayedEngine, Player
from stairstream.sim.prove.recording import Queued, Recorded, RecordedRoom
from stairstream.sim.prove.tape import Shared

QUESTION = "why is the sky blue?"


class Stage:
    """One process: its backends, by model."""

    def __init__(self, case: Case) -> None:
        self.shared = Shared()
        self._seed = case.seed
        self._limited: list[tuple[str, Limited, int]] = []
        self._slots: list[Slots] = []
        self._players: dict[str, Player] = {}
        engines = self._open_engines(case)
        for name, model in case.models.items():
            self._players[name] = Player(model, self.shared, engines.get(name))
        self.backends = {name: self._wrap(player) for name, player in self._players.items()}

    def _open_engines(self, case: Case) -> dict[str, PlayedEngine]:
        engines: dict[str, PlayedEngine] = {}
        for number, engine in enumerate(case.engines):
            slots = Slots(engine.slots)
            self._slots.append(slots)
            room = RecordedRoom(slots, self.shared.stays.setdefault(number, []), self.shared)
            engines |= dict.fromkeys(engine.models, PlayedEngine(number, room, self.shared))
        return engines

    def _wrap(self, player: Player) -> Backend:
        """The wrappers in the order in which a configuration has them."""
        backend: Backend = player
        model = player.case
        if model.max_concurrency is not None or model.requests_per_minute is not None:
            per_minute = model.requests_per_minute
            inner = Limited(backend, max_concurrency=model.max_concurrency, requests_per_minute=per_minute)
            if model.max_concurrency is not None:
                self._limited.append((model.name, inner, model.max_concurrency))
            backend = Queued(inner)
        if model.hedge_after_s is not None:
            backend = Hedged(backend, hedge_after_s=model.hedge_after_s)
        if model.attempts > 1:
            backend = Retrying(backend, attempts=model.attempts, rng=random.Random(self._seed))
        return Recorded(backend)

    def left_over(self) -> list[str]:
        """Calls, permits and slots that outlive all runs, each in words."""
        found = [
            f"{player.num_writing} calls of {name}" for name, player in self._players.items() if player.num_writing
        ]
        for name, backend, most in self._limited:
            if (free := backend._permits._free) != most:
                found.append(f"{most - free} permits of {name}")
            if waiting := backend._permits.num_waiting:
                found.append(f"{waiting} that wait for a permit of {name}")
        for slots in self._slots:
            if slots._num_unreserved != slots.count or slots._waiting:
                found.append(f"{slots.count - slots._num_unreserved} slots, {len(slots._waiting)} that wait for some")
        return found


def open_case(
    case: Case, stage: Stage, journal: Journal | None = None, resumed: Resumed | None = None
) -> AbstractAsyncContextManager[Run]:
    """The run of a case."""
    return open_run(
        case.graph,
        question(QUESTION),
        stage.backends,
        deadline_s=case.deadline_s,
        prices=dict.fromkeys(case.models, PRICE),
        max_cost=case.max_cost,
        pace=case.pace,
        written=case.written,
        rates=case.rates,
        journal=journal,
        resumed=resumed,
    )
