"""The events of a run as others wrote them, checked: what comes from a file or a server may be anything."""

import msgspec

from stairstream.core.errors import RequestError
from stairstream.core.events import Event, RunEnded, RunStarted
from stairstream.server.wire.events import decode_event_json

Told = tuple[Event, str]
"""An event, and the words that it brings."""


class Teller:
    """Lines in, events with their words out. Raises RequestError, with `where`, for what is no run's next event."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._agents: frozenset[str] = frozenset()
        self.num_told = 0
        self.is_over = False

    def tell(self, line: bytes) -> Told:
        """The next event."""
        try:
            event, text = decode_event_json(line)
        except msgspec.DecodeError:
            raise self._refuse("is no event of a run") from None
        match event:
            case RunStarted():
                if self.num_told or event.answer not in event.agents:
                    raise self._refuse("begins another run")
                self._agents = frozenset(event.agents)
            case RunEnded():
                self.is_over = True
            case _ if event.agent not in self._agents:
                raise self._refuse("is of an agent that the run has not")
            case _:
                pass
        self.num_told += 1
        return event, text

    def _refuse(self, problem: str) -> RequestError:
        return RequestError(f"{self._where}: line {self.num_told + 1} {problem}; wanted are the lines of ?format=jsonl")
