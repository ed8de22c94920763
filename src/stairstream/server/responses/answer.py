"""Makes the response of a run: its items, usage and status."""

from msgspec.structs import asdict

from stairstream.answer import Answer
from stairstream.core.events import BROKEN_OFF, RunEnded, RunStarted
from stairstream.server.errors import ApiError, error_by_events
from stairstream.server.responses import wire
from stairstream.server.responses.output import (
    make_details,
    make_response_usage,
    make_spoken,
    make_status,
    reasoning_id,
)
from stairstream.server.responses.request import ResponseRequest
from stairstream.server.runs.outcome import make_result
from stairstream.server.runs.showing import FirstProposal
from stairstream.server.view import RunView


def make_response(
    request: ResponseRequest, run: RunView, created: int, error: ApiError | None = None
) -> wire.ResponseOut:
    """The response of a run that has ended; with the error, if it has failed."""
    answer = request.run.answer_of(run)
    status = make_status(answer.summary.reason, is_background=request.is_background)
    return _fill(
        request,
        run,
        created,
        status=status,
        output=_make_output(request, run, "completed" if status == "completed" else "incomplete"),
        answer=answer,
        error=_make_error(error) if error and status == "failed" else None,
    )


def begin_response(
    request: ResponseRequest, run: RunView, created: int, status: wire.ResponseStatus = "in_progress"
) -> wire.ResponseOut:
    """The response before its first item."""
    return _fill(request, run, created, status=status, output=[])


def show_response(request: ResponseRequest, run: RunView, created: int) -> wire.ResponseOut:
    """The response of a run that may be in flight: as far as its events go."""
    match run.past[-1] if run.past else None:
        case RunEnded() as ended:
            error = error_by_events(run, ended) if ended.reason in BROKEN_OFF else None
            return make_response(request, run, created, error)
        case None | RunStarted():
            return begin_response(request, run, created, "queued")
        case _:
            output = _make_output(request, run, "in_progress")
            return _fill(request, run, created, status="in_progress", output=output)


def _fill(
    request: ResponseRequest,
    run: RunView,
    created: int,
    *,
    status: wire.ResponseStatus,
    output: list[wire.OutputItem],
    answer: Answer | None = None,
    error: wire.ResponseError | None = None,
) -> wire.ResponseOut:
    return wire.ResponseOut(
        **asdict(request.repeated),
        id=f"resp_{run.id}",
        created_at=created,
        status=status,
        model=request.run.model,
        output=output,
        usage=make_response_usage(answer.summary, answer.graph.answer, request.run.usage) if answer else None,
        error=error,
        incomplete_details=make_details(answer.summary.reason) if answer and status == "incomplete" else None,
        completed_at=created + round(answer.summary.total_s) if answer and status == "completed" else None,
        stairstream=make_result(request.run, run.id, answer) if answer else None,
    )


def _make_output(request: ResponseRequest, run: RunView, status: wire.ItemStatus) -> list[wire.OutputItem]:
    """Items in the order of a stream."""
    output: list[wire.OutputItem] = []
    if request.run.show == "thinking" and (thoughts := FirstProposal(run).text_of_all(run.past)):
        item = wire.OutputReasoning(id=reasoning_id(run.id), status="completed", content=[wire.ReasoningText(thoughts)])
        output.append(item)
    return [*output, *make_spoken(run.id, run.past, run.graph.answer, run.answer, status)]


def _make_error(error: ApiError) -> wire.ResponseError:
    """The error with one of the protocol's codes; `type` keeps our own."""
    match error.status:
        case 429:
            return wire.ResponseError(code="rate_limit_exceeded", message=error.message, type=error.kind)
        case 400:
            return wire.ResponseError(code="invalid_prompt", message=error.message, type=error.kind, param=error.param)
        case _:
            return wire.ResponseError(code="server_error", message=error.message, type=error.kind)
