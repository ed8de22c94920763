"""Makes the chat completion of a run that has ended."""

import msgspec
from msgspec import UNSET

from stairstream.core.events import RunEnd, calls_of
from stairstream.engine.run import Run
from stairstream.server.chat.wire import ChatCompletion, Choice, FinishReason, FunctionOut, MessageOut, ToolCallOut
from stairstream.server.runs.outcome import make_result, make_usage
from stairstream.server.runs.request import RunRequest
from stairstream.server.runs.showing import FirstProposal
from stairstream.server.wire.events import encode_event_json


def make_completion(request: RunRequest, run: Run, created: int) -> ChatCompletion:
    """The whole answer of a run that has ended."""
    answer = request.answer_of(run)
    events = (
        [msgspec.Raw(encode_event_json(event, run.text)) for event in run.past] if request.show == "events" else UNSET
    )
    choice = Choice(
        index=0, message=_make_message(request, run), finish_reason=make_finish_reason(answer.summary.reason, request)
    )
    return ChatCompletion(
        id=f"chatcmpl-{run.id}",
        object="chat.completion",
        created=created,
        model=request.model,
        choices=[choice],
        usage=make_usage(request, answer),
        stairstream=make_result(request, run.id, answer, events),
    )


def _make_message(request: RunRequest, run: Run) -> MessageOut:
    thoughts = FirstProposal(run).text_of_all(run.past) if request.show == "thinking" else ""
    calls = [
        ToolCallOut(id=call.id, function=FunctionOut(name=call.name, arguments=call.arguments))
        for call in calls_of(run.past, run.graph.answer)
    ]
    return MessageOut(
        role="assistant",
        content=run.answer or None if calls else run.answer,
        reasoning_content=thoughts or None,
        tool_calls=calls or None,
    )


def make_finish_reason(reason: RunEnd | None, request: RunRequest) -> FinishReason:
    """The finish reason of a run that did not fail. A call of the one tool that `tool_choice` named is a `stop`."""
    match reason:
        case "tool_calls" if request.options.names_tool:
            return "stop"
        case "stop" | "content_filter" | "tool_calls":
            return reason
        case _:  # the answer's own limit, or the run's deadline or budget
            return "length"
