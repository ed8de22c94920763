"""Write ahead: an event of a durable run is shown to its readers only once it is in the run's journal."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from stairstream.core.events import Event, Thought, Wrote
from stairstream.core.journal import Entry
from stairstream.engine.event_log import EventLog


class Journal(Protocol):
    """Where a run is written down, in order."""

    def begin(self, show: Callable[[int], None], lose: Callable[[], None]) -> None:
        """Call `show` with the number of entries that are kept from now on, `lose` once nothing can be written more.

        Both are called in the loop of the run; after `lose` no other call comes.
        """

    def write(self, entry: Entry) -> None:
        """Write an entry down; returns at once."""


class WriteAhead:
    """The events of a run on their way to its readers, by way of its journal."""

    def __init__(
        self, journal: Journal, log: EventLog, text: Callable[[Wrote | Thought], str], on_lost: Callable[[], None]
    ) -> None:
        """`log` has the events that the journal has already; `text` gives the text of words."""
        self.events = [*log.events]
        """All events, also those that are not shown yet."""
        self.is_lost = False
        """Whether the journal can't be written any more: nothing else will be shown."""
        self._journal = journal
        self._log = log
        self._text = text
        self._on_lost = on_lost
        self._entries = deque[Entry]()  # those that are not kept yet
        self._is_closed = False
        journal.begin(self._show, self.lose)

    def put(self, event: Event) -> None:
        """Have an event shown as soon as it is written down."""
        self.events.append(event)
        self._write(Entry(event, self._text(event) if isinstance(event, Wrote | Thought) else ""))

    def put_again(self, event: Event) -> None:
        """The same for words whose text was written down by `hold`."""
        self.events.append(event)
        self._write(Entry(event))

    def hold(self, event: Wrote | Thought) -> None:
        """Have words written down that are shown later."""
        self._write(Entry(event, self._text(event), is_shown=False))

    def close(self) -> None:
        """No more events will come."""
        self._is_closed = True
        self._close_if_shown()

    def lose(self) -> None:
        """Show nothing more: readers are left without a last event, to come back where the run continues."""
        if not (self.is_lost or self._log.is_closed):
            self.is_lost = True
            self._log.close()
            self._on_lost()

    def _show(self, num_entries: int) -> None:
        if self.is_lost:
            return
        for _ in range(num_entries):
            entry = self._entries.popleft()
            if entry.is_shown:
                self._log.append(entry.event)
        self._close_if_shown()

    def _write(self, entry: Entry) -> None:
        if not self.is_lost:
            self._entries.append(entry)
            self._journal.write(entry)

    def _close_if_shown(self) -> None:
        if self._is_closed and not self._entries:
            self._log.close()
