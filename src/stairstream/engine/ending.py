"""The end of a run as one event: the honest reason, and what the answer had to do without."""

from collections.abc import Mapping, Sequence

from stairstream.core.events import AgentEnded, Called, Event, Noted, RunEnded
from stairstream.core.graph import Agent
from stairstream.engine.output import Output


def end_of_run(
    at_s: float,
    answer: Agent,
    ends: Mapping[str, AgentEnded],
    outputs: Mapping[str, Output],
    events: Sequence[Event],
    *,
    is_left: bool,
) -> RunEnded:
    """The last event of a run. One left by its caller is `cancelled`, unless its answer had ended by then."""
    end = ends.get(answer.name)
    degraded = _degraded(answer, ends, outputs, events)
    has_words = len(outputs[answer.name].answer) > 0 or any(
        isinstance(event, Called) and event.agent == answer.name for event in events
    )
    match end.reason if end else "cancelled":
        case "stop" | "length" | "content_filter" | "tool_calls" as reason:
            return RunEnded(at_s=at_s, reason=reason, degraded=degraded)
        case "deadline" | "budget" as reason if has_words:
            return RunEnded(at_s=at_s, reason=reason, degraded=degraded)
        case "deadline" | "budget" as reason:
            error = f"nothing had been said when the run's {reason} was reached"
            return RunEnded(at_s=at_s, reason="failed", degraded=degraded, error=error)
        case "shutdown" as reason:
            error = "the server was shut down before the answer had ended"
            return RunEnded(at_s=at_s, reason=reason, degraded=degraded, error=error)
        case "cancelled" if is_left:
            return RunEnded(at_s=at_s, reason="cancelled", degraded=degraded)
        case _:
            assert end is not None
            return RunEnded(at_s=at_s, reason="failed", degraded=degraded, error=end.error)


def _degraded(
    answer: Agent, ends: Mapping[str, AgentEnded], outputs: Mapping[str, Output], events: Sequence[Event]
) -> tuple[str, ...]:
    """Lines that name what the answer had to do without; of one that was broken off itself only what had failed."""
    found = []
    is_whole = answer.name in ends and ends[answer.name].reason not in ("failed", "dropped", "cancelled", "shutdown")
    gave_nothing = {name for name, output in outputs.items() if not len(output.forwarded)}
    for name, end in ends.items():
        if name == answer.name:
            continue
        if end.reason == "dropped":
            found.append(f"{name} was dropped: {end.error}")
        elif end.reason == "failed":
            found.append(f"{name} broke off after {outputs[name].answer.num_tokens} tokens: {end.error}")
        elif is_whole and name in gave_nothing:
            found.append(f"{name} {_said_nothing(end)}")
    for event in events:
        if isinstance(event, Noted) and event.note.kind in ("failover", "full", "unread"):
            found.append(f"{event.agent}: {event.note.text}")
    if is_whole and answer.reads and gave_nothing.issuperset(answer.reads):
        found.append(f"{answer.name} answered alone")
    return tuple(found)


def _said_nothing(end: AgentEnded) -> str:
    match end.reason:
        case "cancelled":
            return "had said nothing when its last reader ended"
        case "deadline" | "budget" as reason:
            return f"had said nothing when the run's {reason} was reached"
        case _:
            return "gave nothing to read"
