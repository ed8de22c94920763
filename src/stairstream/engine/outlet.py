"""The way of a run's events to its readers: by its pace, and by its journal."""

from collections.abc import Callable, Sequence

from stairstream.core.events import Event, Thought, Wrote
from stairstream.core.graph import Graph
from stairstream.core.journal import Entry
from stairstream.engine.event_log import EventLog
from stairstream.engine.pace import Pace, open_pacer
from stairstream.engine.write_ahead import Journal, WriteAhead


class Outlet:
    """Events are put in as they happen, and are in `log` once readers may have them."""

    def __init__(
        self,
        graph: Graph,
        pace: Pace,
        clock: Callable[[], float],
        text: Callable[[Wrote | Thought], str],
        entries: Sequence[Entry] = (),
    ) -> None:
        """`text` gives the text of words; `entries` are those of a run that is continued, whose words are back."""
        self.log = EventLog()
        self._text = text
        self._pacer = open_pacer(pace, graph, clock, self._release, text)
        self._ahead: WriteAhead | None = None
        self._append = self.log.append
        for event, _, is_shown in entries:
            if is_shown:
                self.log.append(event)
            if self._pacer is not None:
                self._pacer.restore(event, is_shown=is_shown)

    def write_ahead(self, journal: Journal, on_lost: Callable[[], None]) -> None:
        """From now on show an event only once it is in the journal; `on_lost`: it can't be written any more."""
        self._ahead = WriteAhead(journal, self.log, self._text, on_lost)
        self._append = self._ahead.put

    @property
    def events(self) -> Sequence[Event]:
        """Events until now; with a journal also those that are not shown yet."""
        return self.log.events if self._ahead is None else self._ahead.events

    @property
    def is_lost(self) -> bool:
        """Whether the journal can't be written any more."""
        return self._ahead is not None and self._ahead.is_lost

    @property
    def put(self) -> Callable[[Event], None]:
        """Takes an event: the cheapest function that does."""
        return self._append if self._pacer is None else self._pace

    def _pace(self, event: Event) -> None:
        assert self._pacer is not None
        if self._ahead is not None and self._pacer.holds(event):
            self._ahead.hold(event)
        self._pacer.put(event)

    def _release(self, event: Event) -> None:
        """An event comes from the pacer."""
        if self._ahead is not None and self._pacer is not None and self._pacer.holds(event):
            self._ahead.put_again(event)
        else:
            self._append(event)

    def wake(self) -> None:
        """Begin to release the words of a run that is continued."""
        if self._pacer is not None:
            self._pacer.wake()

    def flush(self) -> None:
        """Wait for no pace any more."""
        if self._pacer is not None:
            self._pacer.flush()

    async def drain(self) -> None:
        """Until everything that was put has been released."""
        if self._pacer is not None:
            await self._pacer.drain()

    def lose(self) -> None:
        """Show nothing more: another process is to continue from the journal."""
        assert self._ahead is not None, "only a run with a journal can be continued"
        self._ahead.lose()

    def close(self, last: Event) -> None:
        """Take the last event."""
        self._append(last)
        if self._ahead is None:
            self.log.close()
        else:
            self._ahead.close()
