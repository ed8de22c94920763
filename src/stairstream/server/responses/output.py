"""The parts of a response that follow from a run's events: items of the answer, status and usage."""

from collections.abc import Sequence

from stairstream.config.pipelines import UsageScope
from stairstream.core.events import BROKEN_OFF, Called, Event, RunEnd, Wrote, calls_of
from stairstream.core.messages import ToolCall
from stairstream.core.metrics import Summary
from stairstream.server.responses import wire
from stairstream.server.runs.outcome import add_up_usage


def make_status(reason: RunEnd | None, *, is_background: bool) -> wire.ResponseStatus:
    """The status of an answer that is over; only one in the background is `cancelled`, as its client asked for that."""
    if reason == "cancelled" and is_background:
        return "cancelled"
    if reason in BROKEN_OFF:
        return "failed"
    return "completed" if reason in ("stop", "tool_calls") else "incomplete"


def message_id(run_id: str) -> str:
    """The id of the message with the answer."""
    return f"msg_{run_id}"


def reasoning_id(run_id: str) -> str:
    """The id of the item with the reasoning."""
    return f"rs_{run_id}"


def call_item_id(run_id: str, index: int) -> str:
    """The id of the item with a call; the call's own id is the model's."""
    return f"fc_{run_id}_{index}"


def make_spoken(
    run_id: str, events: Sequence[Event], answering: str, text: str, status: wire.ItemStatus
) -> list[wire.OutputItem]:
    """The message and the calls of the answering agent, in the order in which each began."""
    order = _list_spoken(events, answering)
    calls = dict(zip(sorted(one for one in order if one is not None), calls_of(events, answering), strict=True))
    output: list[wire.OutputItem] = []
    for index in order or ([None] if status == "completed" else []):
        if index is None:
            output.append(wire.OutputMessage(id=message_id(run_id), status=status, content=[wire.OutputText(text)]))
        else:
            output.append(_make_call(run_id, index, calls[index], status))
    return output


def _list_spoken(events: Sequence[Event], answering: str) -> list[int | None]:
    """The indices of calls, and None for the text, in the order in which they began."""
    own = (event for event in events if isinstance(event, Wrote | Called) and event.agent == answering)
    return list(dict.fromkeys(event.index if isinstance(event, Called) else None for event in own))


def _make_call(run_id: str, index: int, call: ToolCall, status: wire.ItemStatus) -> wire.OutputCall:
    return wire.OutputCall(
        id=call_item_id(run_id, index), call_id=call.id, name=call.name, arguments=call.arguments, status=status
    )


def make_response_usage(summary: Summary, answering: str, scope: UsageScope) -> wire.ResponseUsage:
    """The usage of a run that is over."""
    usage = add_up_usage(summary, answering, scope)
    cached = usage.prompt_tokens_details
    return wire.ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=wire.InputTokensDetails(cached_tokens=cached.cached_tokens if cached else 0),
        output_tokens=usage.completion_tokens,
        output_tokens_details=wire.OutputTokensDetails(usage.completion_tokens_details.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )


def make_details(reason: RunEnd | None) -> wire.IncompleteDetails:
    """The reason why an answer is not whole."""
    return wire.IncompleteDetails(reason="content_filter" if reason == "content_filter" else "max_output_tokens")
