"""The journal of one run while this process holds it: events become lines, and words are shown once they are kept."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from stairstream.core.adaptive import Rate
from stairstream.core.events import Called, Event, RunEnded, RunStarted, Wrote
from stairstream.core.journal import Entry
from stairstream.server.durable.contract import JournalledRun
from stairstream.server.durable.writer import GroupWriter, Writing
from stairstream.server.wire.events import decode_event_json, encode_told

_HELD = b" "
"""The beginning of a line whose words are not shown yet: other lines begin with a brace."""


class Recording:
    """The journal that an engine's run writes."""

    def __init__(self, writer: GroupWriter, begun: JournalledRun, num_kept: int = 0) -> None:
        """`begun` is the run with the token of this holder; with `num_kept` entries it is continued."""
        self._writer = writer
        self._begun = begun
        self._num_kept = num_kept
        self._answer = ""
        self._has_spoken = num_kept > 0
        self._writing: Writing | None = None
        self._show: Callable[[int], None] = _ignore
        self._lose: Callable[[], None] = lambda: None

    @property
    def is_kept(self) -> bool:
        """Whether the run is in the database, so that another process may continue it."""
        return self._num_kept > 0 or (self._writing is not None and self._writing.num_kept > 0)

    def reserve(self, hold: str | None) -> None:
        """Note the reservation of its key's budget, before its first event."""
        self._begun = replace(self._begun, hold=hold)

    def begin(self, show: Callable[[int], None], lose: Callable[[], None]) -> None:
        """As in Journal."""
        self._show, self._lose = show, lose

    def write(self, entry: Entry) -> None:
        """As in Journal."""
        event = entry.event
        if (writing := self._writing) is None:
            writing = self._writing = self._open(event)
            self._writer.open(writing)
        if isinstance(event, RunEnded):
            writing.is_last = True
        self._writer.add(writing, encode_entry(entry), is_urgent=writing.is_last or self._is_first_word(event))

    def _open(self, event: Event) -> Writing:
        begun = self._begun
        if isinstance(event, RunStarted):
            self._answer = event.answer
            begun = replace(begun, id=event.run_id)
        return Writing(
            run=begun.id,
            token=begun.token,
            num_kept=self._num_kept,
            show=self._show,
            lose=self._lose,
            begins=None if self._num_kept else begun,
        )

    def _is_first_word(self, event: Event) -> bool:
        """Whether it is the answer's first word."""
        if self._has_spoken or not isinstance(event, Wrote | Called) or event.agent != self._answer:
            return False
        self._has_spoken = True
        return True


def encode_entry(entry: Entry) -> bytes:
    """An entry of a journal as a line."""
    line = encode_told(entry.event, entry.text)
    return (line if entry.is_shown else _HELD + line) + b"\n"


def decode_entry(line: bytes) -> Entry:
    """An entry of a journal; raises msgspec.DecodeError for anything else."""
    event, text = decode_event_json(line)
    return Entry(event, text, is_shown=not line.startswith(_HELD))


encode_rates = msgspec.json.Encoder().encode
decode_rates = msgspec.json.Decoder(dict[str, Rate]).decode
"""The speeds of models that were known when a run began, by their names."""


def _ignore(num_entries: int) -> None:
    """Before the run has begun, nothing is kept."""
