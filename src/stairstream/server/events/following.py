"""A durable run whose holder is another process, as a stream of events: read from its journal as that grows."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass

from stairstream.core.events import Event, RunEnded, Thought, Wrote
from stairstream.core.graph import Graph
from stairstream.core.journal import Entry
from stairstream.core.messages import split_begun
from stairstream.server.access.gate import Caller
from stairstream.server.durable.contract import JournalledRun
from stairstream.server.durable.keeping import Journals
from stairstream.server.runs.answering import Service
from stairstream.server.runs.live import no_run
from stairstream.server.runs.request import RunRequest
from stairstream.server.wire.events import encode_event_json

POLL_S = 0.2
"""Time between two looks for new entries."""
MOST_WAIT_S = 5.0
"""Time in which a run that was cancelled is over, also if it must be taken over first."""


class JournalReader:
    """The events of a journal as their readers see them, with their texts."""

    def __init__(self) -> None:
        self.num_entries = 0
        self.num_shown = 0
        self.is_over = False
        self._texts: dict[tuple[str, type], str] = {}

    def read(self, entries: Iterable[Entry], start: int) -> Iterator[bytes]:
        """Encode the events from number `start` on that these entries show."""
        for entry in entries:
            self.num_entries += 1
            event = entry.event
            if isinstance(event, Wrote | Thought) and entry.text:
                key = event.agent, type(event)
                self._texts[key] = self._texts.get(key, "") + entry.text
            if entry.is_shown:
                if self.num_shown >= start:
                    yield b"id: %d\ndata: %s\n\n" % (self.num_shown, encode_event_json(event, self.text))
                self.num_shown += 1
                self.is_over = isinstance(event, RunEnded)

    def text(self, event: Wrote | Thought) -> str:
        """The words that an event is about."""
        return self._texts[event.agent, type(event)][event.start : event.end]


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run as its journal has it: enough to make an answer of."""

    id: str
    graph: Graph
    answer: str


async def find_journal(journals: Journals | None, caller: Caller, run_id: str) -> tuple[Journals, JournalledRun]:
    """The journals, and the run of this caller that they have; else ApiError 404."""
    run = await journals.store.find(run_id) if journals is not None else None
    if journals is None or run is None or run.key_id != caller.key_id:
        raise no_run(run_id)
    return journals, run


async def read_kept(
    service: Service, journals: Journals, caller: Caller, run: JournalledRun
) -> tuple[RunRequest, KeptRun, list[Event]]:
    """The request of a run, read again, and the run with its events, as its journal has them."""
    request = (await service.protocols[run.protocol](run.body, service.catalog, caller)).run_request
    conversation, written = split_begun(request.conversation)
    graph = request.pipeline.graph_for(conversation, request.options, written)
    entries = await journals.entries(run.id)
    words = [entry.text for entry in entries if isinstance(entry.event, Wrote) and entry.event.agent == graph.answer]
    events = [entry.event for entry in entries if entry.is_shown]
    return request, KeptRun(run.id, graph, "".join(words)), events


async def wait_over(journals: Journals, run_id: str) -> JournalledRun | None:
    """Wait until a run is over, for a few seconds at most; returns it as it is then."""
    for _ in range(round(MOST_WAIT_S / POLL_S)):
        run = await journals.store.find(run_id)
        if run is None or run.is_over:
            return run
        await asyncio.sleep(POLL_S)
    return await journals.store.find(run_id)


async def follow(
    journals: Journals, run_id: str, start: int, reader: JournalReader, is_here: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """The events from number `start` on, as they come; ends with the run, or once that is in flight in this process."""
    while not reader.is_over:
        if data := b"".join(reader.read(await journals.entries(run_id, reader.num_entries), start)):
            yield data
        if is_here():
            return
        if not (reader.is_over or data):
            await journals.take(run_id)
            await asyncio.sleep(0 if is_here() else POLL_S)
