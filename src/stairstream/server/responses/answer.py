"""Makes the response of a run: its items, usage and status."""

from stairstream.api import Answer
from stairstream.core.events import Called, RunEnd, Wrote, calls_of
from stairstream.core.messages import ToolCall
from stairstream.engine.run import Run
from stairstream.server.errors import ApiError
from stairstream.server.responses import wire
from stairstream.server.responses.request import ResponseRequest
from stairstream.server.runs.outcome import make_result, make_usage
from stairstream.server.runs.showing import FirstProposal


def make_response(request: ResponseRequest, run: Run, created: int, error: ApiError | None = None) -> wire.ResponseOut:
    """The response of a run that has ended, well or not."""
    answer = request.run.answer_of(run)
    status = "failed" if error else make_status(answer.summary.reason)
    return _fill(
        request,
        run,
        created,
        status=status,
        output=_make_output(request, run, "completed" if status == "completed" else "incomplete"),
        answer=answer,
        error=_make_error(error) if error else None,
    )


def begin_response(request: ResponseRequest, run: Run, created: int) -> wire.ResponseOut:
    """The response before its first item."""
    return _fill(request, run, created, status="in_progress", output=[])


def make_status(reason: RunEnd | None) -> wire.ResponseStatus:
    """The status of an answer that did not fail."""
    return "completed" if reason in ("stop", "tool_calls") else "incomplete"


def message_id(run: Run) -> str:
    """The id of the message with the answer."""
    return f"msg_{run.id}"


def reasoning_id(run: Run) -> str:
    """The id of the item with the reasoning."""
    return f"rs_{run.id}"


def call_item_id(run: Run, index: int) -> str:
    """The id of the item with a call; the call's own id is the model's."""
    return f"fc_{run.id}_{index}"


def _fill(
    request: ResponseRequest,
    run: Run,
    created: int,
    *,
    status: wire.ResponseStatus,
    output: list[wire.OutputItem],
    answer: Answer | None = None,
    error: wire.ResponseError | None = None,
) -> wire.ResponseOut:
    given, sampling = request.given, run.graph.agent(run.graph.answer).sampling
    return wire.ResponseOut(
        id=f"resp_{run.id}",
        created_at=created,
        status=status,
        model=request.run.model,
        output=output,
        usage=_make_usage(answer) if answer else None,
        error=error,
        incomplete_details=_make_details(answer) if answer and status == "incomplete" else None,
        completed_at=created + round(answer.summary.total_s) if answer and status == "completed" else None,
        instructions=given.instructions,
        max_output_tokens=given.max_output_tokens,
        metadata=given.metadata or {},
        previous_response_id=given.previous_response_id,
        parallel_tool_calls=given.parallel_tool_calls is not False,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        text=request.text,
        tool_choice=request.tool_choice,
        tools=request.tools,
        user=given.user,
        stairstream=make_result(request.run, run.id, answer) if answer else None,
    )


def _make_output(request: ResponseRequest, run: Run, status: wire.ItemStatus) -> list[wire.OutputItem]:
    """Items in the order in which each began, which is that of a stream."""
    output: list[wire.OutputItem] = []
    if request.run.show == "thinking" and (thoughts := FirstProposal(run).text_of_all(run.past)):
        item = wire.OutputReasoning(id=reasoning_id(run), status="completed", content=[wire.ReasoningText(thoughts)])
        output.append(item)
    order = _list_spoken(run)
    calls = dict(
        zip(sorted(one for one in order if one is not None), calls_of(run.past, run.graph.answer), strict=True)
    )
    for index in order or ([None] if status == "completed" else []):
        if index is None:
            message = wire.OutputMessage(id=message_id(run), status=status, content=[wire.OutputText(run.answer)])
            output.append(message)
        else:
            output.append(_make_call(run, index, calls[index], status))
    return output


def _list_spoken(run: Run) -> list[int | None]:
    """The indices of calls, and None for the text, in the order in which they began."""
    own = (event for event in run.past if isinstance(event, Wrote | Called) and event.agent == run.graph.answer)
    return list(dict.fromkeys(event.index if isinstance(event, Called) else None for event in own))


def _make_call(run: Run, index: int, call: ToolCall, status: wire.ItemStatus) -> wire.OutputCall:
    return wire.OutputCall(
        id=call_item_id(run, index), call_id=call.id, name=call.name, arguments=call.arguments, status=status
    )


def _make_usage(answer: Answer) -> wire.ResponseUsage:
    usage = make_usage(answer)
    cached = usage.prompt_tokens_details
    return wire.ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=wire.InputTokensDetails(cached_tokens=cached.cached_tokens if cached else 0),
        output_tokens=usage.completion_tokens,
        output_tokens_details=wire.OutputTokensDetails(usage.completion_tokens_details.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )


def _make_details(answer: Answer) -> wire.IncompleteDetails:
    return wire.IncompleteDetails(
        reason="content_filter" if answer.summary.reason == "content_filter" else "max_output_tokens"
    )


def _make_error(error: ApiError) -> wire.ResponseError:
    """The error with one of the protocol's codes; `type` keeps our own."""
    match error.status:
        case 429:
            return wire.ResponseError(code="rate_limit_exceeded", message=error.message, type=error.kind)
        case 400:
            return wire.ResponseError(code="invalid_prompt", message=error.message, type=error.kind, param=error.param)
        case _:
            return wire.ResponseError(code="server_error", message=error.message, type=error.kind)
