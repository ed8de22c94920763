"""How a run ended, in one event: the honest reason, and what the answer had to do without."""

from collections.abc import Mapping, Sequence

from stairstream.core.events import AgentEnded, Called, Event, Noted, RunEnded
from stairstream.engine.output import Output


def end_of_run(
    at_s: float,
    answer: str,
    ends: Mapping[str, AgentEnded],
    outputs: Mapping[str, Output],
    events: Sequence[Event],
    *,
    is_left: bool,
) -> RunEnded:
    """The last event of a run. One left by its caller is `cancelled`, unless its answer had ended by then."""
    end = ends.get(answer)
    degraded = _degraded(answer, ends, outputs, events)
    has_words = len(outputs[answer].answer) > 0 or any(
        isinstance(event, Called) and event.agent == answer for event in events
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
    answer: str, ends: Mapping[str, AgentEnded], outputs: Mapping[str, Output], events: Sequence[Event]
) -> tuple[str, ...]:
    """What the answer had to do without, a line each."""
    found = []
    upstream = [end for name, end in ends.items() if name != answer]
    for end in upstream:
        if end.reason == "dropped":
            found.append(f"{end.agent} was dropped: {end.error}")
        elif end.reason == "failed":
            tokens = outputs[end.agent].answer.num_tokens
            found.append(f"{end.agent} broke off after {tokens} tokens: {end.error}")
    for event in events:
        if isinstance(event, Noted) and event.note.kind in ("failover", "full", "unread"):
            found.append(f"{event.agent}: {event.note.text}")
    if upstream and all(end.reason == "dropped" for end in upstream):
        found.append(f"{answer} answered alone")
    return tuple(found)
