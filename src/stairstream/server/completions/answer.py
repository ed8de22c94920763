"""Makes the completion of a run that has ended."""

from stairstream.core.events import RunEnd
from stairstream.engine.run import Run
from stairstream.server.completions.wire import Completion, CompletionChoice, CompletionFinish
from stairstream.server.runs.outcome import make_result, make_usage
from stairstream.server.runs.request import RunRequest


def make_completion(request: RunRequest, run: Run, created: int) -> Completion:
    """The whole answer of a run that has ended."""
    answer = request.answer_of(run)
    finish = make_completion_finish(answer.summary.reason)
    return Completion(
        id=completion_id(run),
        object="text_completion",
        created=created,
        model=request.model,
        choices=[CompletionChoice(text=run.answer, index=0, finish_reason=finish)],
        usage=make_usage(request, answer),
        stairstream=make_result(request, run.id, answer),
    )


def completion_id(run: Run) -> str:
    """The completion's id."""
    return f"cmpl-{run.id}"


def make_completion_finish(reason: RunEnd | None) -> CompletionFinish:
    """The finish reason of a run that did not fail."""
    match reason:
        case "stop" | "content_filter":
            return reason
        case _:  # the answer's own limit, or the run's deadline or budget
            return "length"
