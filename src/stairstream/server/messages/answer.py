"""Makes the message of a run that has ended: its blocks, usage and stop reason."""

from collections.abc import Sequence
from typing import Any

import msgspec

from stairstream.answer import Answer
from stairstream.core.events import Called, Event, StepEnded, Wrote, calls_of
from stairstream.core.messages import ToolCall
from stairstream.engine.run import Run
from stairstream.server.errors import ApiError
from stairstream.server.messages import wire
from stairstream.server.runs.outcome import make_result, make_usage
from stairstream.server.runs.request import RunRequest
from stairstream.server.runs.showing import FirstProposal

_decode_input = msgspec.json.Decoder(dict[str, Any]).decode


def make_message(request: RunRequest, run: Run) -> wire.MessagesAnswer:
    """The message of a run that has ended well."""
    answer = request.answer_of(run)
    reason, sequence = make_stop(request, run, answer)
    return wire.MessagesAnswer(
        id=message_id(run),
        model=request.model,
        content=_make_blocks(request, run),
        stop_reason=reason,
        stop_sequence=sequence,
        usage=make_message_usage(request, answer),
        stairstream=make_result(request, run.id, answer),
    )


def message_id(run: Run) -> str:
    """The message's id."""
    return f"msg_{run.id}"


def make_message_usage(request: RunRequest, answer: Answer) -> wire.MessageUsage:
    """Tokens of the agents that the request counts."""
    usage = make_usage(request, answer)
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return wire.MessageUsage(
        input_tokens=usage.prompt_tokens - (cached or 0),
        output_tokens=usage.completion_tokens,
        cache_read_input_tokens=cached,
        output_tokens_details=wire.OutputDetails(usage.completion_tokens_details.reasoning_tokens),
    )


def make_stop(request: RunRequest, run: Run, answer: Answer) -> tuple[wire.StopReason, str | None]:
    """The stop reason, and the client's stop sequence that was found."""
    match answer.summary.reason:
        case "stop":
            stop = _find_stop(run)
            return ("stop_sequence", stop) if stop in request.options.stop else ("end_turn", None)
        case "tool_calls":
            return "tool_use", None
        case "content_filter":
            return "refusal", None
        case _:  # the answer's own limit, or the run's deadline or budget
            return "max_tokens", None


def split_words(run: Run) -> tuple[str, str]:
    """The answer's text before its first tool call, and the text after it."""
    before = 0
    for event in run.past:
        if isinstance(event, Called) and event.agent == run.graph.answer:
            return run.answer[:before], run.answer[before:]
        if isinstance(event, Wrote) and event.agent == run.graph.answer:
            before = event.end
    return run.answer, ""


def _make_blocks(request: RunRequest, run: Run) -> list[wire.BlockOut]:
    """Blocks in the order of a stream."""
    blocks: list[wire.BlockOut] = []
    if request.show == "thinking" and (thoughts := FirstProposal(run).text_of_all(run.past)):
        blocks.append(wire.ThinkingOut(thoughts))
    before, after = split_words(run)
    calls = calls_of(run.past, run.graph.answer)
    if before or not (calls or after):
        blocks.append(wire.TextOut(before))
    is_whole = request.answer_of(run).summary.reason == "tool_calls"
    for call in calls:
        arguments = _read_arguments(call)
        if arguments is not None:
            blocks.append(wire.ToolUseOut(id=call.id, name=call.name, input=arguments))
        elif is_whole:  # else it was cut off, as the stop reason says
            message = f"the model called {call.name[:80]!r} with arguments that are not a JSON object"
            raise ApiError(status=502, message=message, kind="server_error", code="upstream_malformed")
    if after:
        blocks.append(wire.TextOut(after))
    return blocks


def _read_arguments(call: ToolCall) -> dict[str, Any] | None:
    """The arguments of a call, None if they are not a JSON object: this protocol requires one."""
    try:
        return _decode_input(call.arguments.strip() or "{}")
    except msgspec.DecodeError:
        return None


def _find_stop(run: Run) -> str | None:
    """The stop sequence that the answer ended at, if any."""
    stops = run.graph.agent(run.graph.answer).sampling.stop
    last = _last_step(run.past, run.graph.answer)
    if last is None or last.reason != "stop_string":
        return None
    return last.stop_string or (stops[0] if len(stops) == 1 else None)


def _last_step(events: Sequence[Event], agent: str) -> StepEnded | None:
    own = (event for event in reversed(events) if isinstance(event, StepEnded) and event.agent == agent)
    return next(own, None)
