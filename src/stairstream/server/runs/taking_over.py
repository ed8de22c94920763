"""Continues a durable run that another process began: its request is read again, and its journal put back."""

import logging
from collections.abc import Iterator, Sequence

from stairstream.core.events import AgentEnded, Event, RunEnded, RunStarted, Wrote
from stairstream.core.journal import Entry
from stairstream.engine.resuming import Resumed
from stairstream.server.durable.contract import JournalledRun
from stairstream.server.durable.keeping import MOST_TRIES, Journals, Resume
from stairstream.server.durable.recording import decode_rates
from stairstream.server.errors import ApiError, StorageFailed
from stairstream.server.runs.answering import Service

_log = logging.getLogger(__name__)


def take_over(service: Service, journals: Journals) -> Resume:
    """Returns what continues runs in this process; a run that can't be continued ends, and its last event says why."""

    async def resume(run: JournalledRun, entries: Sequence[Entry]) -> bool:
        if run.tries > MOST_TRIES:
            _give_up(journals, run, entries, f"{run.tries} processes were lost with this run, so it is not continued")
            return True
        try:
            await _resume(service, journals, run, entries)
        except StorageFailed:
            return False
        except ApiError as exc:
            if exc.status == 503:  # this process is full, or stops
                return False
            _give_up(journals, run, entries, f"its process was lost, and it can't be continued: {exc.message}")
        except Exception as exc:
            # any failure is that of this run: raised here, it would end the process, and then the next
            _log.error("a run can't be continued", exc_info=exc)
            _give_up(journals, run, entries, f"its process was lost, and it can't be continued: {exc}")
        return True

    return resume


async def _resume(service: Service, journals: Journals, run: JournalledRun, entries: Sequence[Entry]) -> None:
    read = service.protocols.get(run.protocol)
    if read is None:
        raise ApiError(status=501, message=f"this server does not know the protocol {run.protocol!r}")
    caller = service.gate.recall(run.key_id)
    request = (await read(run.body, service.catalog, caller)).run_request
    resumed = Resumed(entries=entries, at_s=run.age_s)
    admission = service.gate.readmit(caller, request.reserve, run.hold)
    rates = decode_rates(run.rates) if run.rates else None
    await service.runs.resume(request, caller, admission, journals.record_on(run, len(entries)), rates, resumed)


def _give_up(journals: Journals, run: JournalledRun, entries: Sequence[Entry], error: str) -> None:
    journal = journals.record_on(run, len(entries))
    for event in _last_events([entry.event for entry in entries], run.age_s, error):
        journal.write(Entry(event))


def _last_events(events: Sequence[Event], at_s: float, error: str) -> Iterator[Event]:
    """Every agent that had not ended has failed, and the run with them."""
    ended = {event.agent for event in events if isinstance(event, AgentEnded)}
    spoken = {event.agent for event in events if isinstance(event, Wrote)}
    at_s = max(at_s, *(event.at_s for event in events)) if events else at_s
    for agent in next((event.agents for event in events if isinstance(event, RunStarted)), ()):
        if agent not in ended:
            yield AgentEnded(at_s=at_s, agent=agent, reason="failed" if agent in spoken else "dropped", error=error)
    yield RunEnded(at_s=at_s, reason="failed", error=error)
