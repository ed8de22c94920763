"""A durable run as its journal has it: shown, ended, and followed by any process while that grows."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from stairstream.core.events import Event, RunEnded, Thought, Wrote
from stairstream.core.graph import Graph
from stairstream.core.journal import Entry
from stairstream.core.messages import split_begun
from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller
from stairstream.server.durable.contract import JournalledRun
from stairstream.server.durable.keeping import Journals
from stairstream.server.http.sse_out import SseOut
from stairstream.server.runs.answering import RunStream, send_run
from stairstream.server.runs.live import LiveRuns
from stairstream.server.runs.request import RunRequest

POLL_S = 0.2
"""Time between two looks for new entries."""
MOST_WAIT_S = 5.0
"""Time in which a run that was cancelled is over, also if it must be taken over first."""


class KeptEvents:
    """The events of a journal as their readers see them, with their texts; grows with its entries."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.past: list[Event] = []
        self.num_entries = 0
        self._texts: dict[tuple[str, type], str] = {}
        self._num_said: dict[str, int] = {}

    @property
    def is_over(self) -> bool:
        """Whether the last event is there."""
        return bool(self.past) and isinstance(self.past[-1], RunEnded)

    def add(self, entries: Iterable[Entry]) -> Sequence[Event]:
        """Take in the next entries; returns the events that they show."""
        shown: list[Event] = []
        for entry in entries:
            self.num_entries += 1
            event = entry.event
            if isinstance(event, Wrote | Thought) and entry.text:
                key = event.agent, type(event)
                self._texts[key] = self._texts.get(key, "") + entry.text
            if entry.is_shown:
                shown.append(event)
                if isinstance(event, Wrote):
                    self._num_said[event.agent] = event.end
        self.past += shown
        return shown

    def text(self, event: Wrote | Thought) -> str:
        """The words that an event is about."""
        return self._texts[event.agent, type(event)][event.start : event.end]

    def said(self, agent: str) -> str:
        """All words of an agent that were shown."""
        return self._texts.get((agent, Wrote), "")[: self._num_said.get(agent, 0)]


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run of a journal, as far as that goes: enough to make an answer of."""

    events: KeptEvents
    graph: Graph
    failure: None = None
    """Of a failure the journal has only what its events say."""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.events.id

    @property
    def past(self) -> Sequence[Event]:
        """Events until now."""
        return self.events.past

    @property
    def answer(self) -> str:
        """The answer so far."""
        return self.events.said(self.graph.answer)

    def text(self, event: Wrote | Thought) -> str:
        """The words that an event is about."""
        return self.events.text(event)


async def read_kept(journals: Journals, request: RunRequest, run_id: str) -> KeptRun:
    """The run of this request with all that its journal has."""
    conversation, written = split_begun(request.conversation)
    events = KeptEvents(run_id)
    events.add(await journals.entries(run_id))
    return KeptRun(events, request.pipeline.graph_for(conversation, request.options, written))


async def find_kept(journals: Journals | None, caller: Caller, run_id: str) -> tuple[Journals, JournalledRun] | None:
    """The journals, and the run of this caller that they have; None if they have none, or it is another key's."""
    run = await journals.store.find(run_id) if journals is not None else None
    if journals is None or run is None or run.key_id != caller.key_id:
        return None
    return journals, run


async def end_kept(runs: LiveRuns, journals: Journals, caller: Caller, run_id: str) -> JournalledRun | None:
    """End a run of this caller, whichever process holds it; as it is then, None if its journal is gone by then."""
    if (one := runs.get(caller, run_id)) is not None:
        await runs.cancel(one)
    if one is None or one.run.is_lost:
        await journals.store.cancel(run_id)
    return await wait_over(journals, run_id)


async def wait_over(journals: Journals, run_id: str) -> JournalledRun | None:
    """Wait until a run is over, for a few seconds at most; returns it as it is then."""
    for _ in range(round(MOST_WAIT_S / POLL_S)):
        run = await journals.store.find(run_id)
        if run is None or run.is_over:
            return run
        await asyncio.sleep(POLL_S)
    return await journals.store.find(run_id)


async def send_kept(
    out: SseOut,
    runs: LiveRuns,
    caller: Caller,
    kept: KeptEvents,
    stream: RunStream,
    change_over: Callable[[Run], tuple[RunStream, int]],
) -> None:
    """Send what comes after the events that `kept` has, by `stream`, from the journal.

    Once the run is in flight in this process it comes from there, without the wait for a look at the journal:
    `change_over` gives the stream for the rest, and the number of its first event.
    """
    assert runs.journals is not None, "what is kept is in journals"

    def is_here() -> bool:
        return runs.get(caller, kept.id) is not None

    async with aclosing(_follow(runs.journals, kept, is_here)) as batches:
        async for batch in batches:
            data = stream.encode(batch)
            if data or stream.is_over:
                await out.write(data, is_last=stream.is_over)
    if not stream.is_over and is_here():
        with runs.attach(caller, kept.id) as one:
            stream, position = change_over(one.run)
            await send_run(out, one.run, stream, position)


async def _follow(
    journals: Journals, kept: KeptEvents, is_here: Callable[[], bool]
) -> AsyncGenerator[Sequence[Event], None]:
    """New events as they come; ends with the run, or once that is in flight here, or its journal is gone."""
    while not kept.is_over:
        if shown := kept.add(await journals.entries(kept.id, kept.num_entries)):
            yield shown
        if is_here():
            return
        if not (kept.is_over or shown):
            if not await journals.take(kept.id):
                return
            await asyncio.sleep(0 if is_here() else POLL_S)
