"""The part of a run that an agent's parts need."""

from collections.abc import Callable
from dataclasses import dataclass

from stairstream.core.events import Event
from stairstream.engine.demand import Demand
from stairstream.engine.standstill import Standstills


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The time since the run began, where events go, and which agents wait."""

    clock: Callable[[], float]
    emit: Callable[[Event], None]
    standstills: Standstills
    demand: Demand
