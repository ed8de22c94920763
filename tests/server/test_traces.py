"""Traces: a workflow, its agents and their calls, in the words of the GenAI conventions, below the caller's span."""

import asyncio

import pytest

pytest.importorskip("starlette")
pytest.importorskip("opentelemetry.sdk")

from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stairstream.server.http.exchange import AsgiMessage, Receive, Scope, Send
from stairstream.server.observing.traces import Parented, make_trace, trace_runs
from stairstream.server.runs.finished import Finished
from tests.server.finished import finish

START_S = 1000.0


def spans_of(finished: Finished) -> list[ReadableSpan]:
    """The spans of a run that began at START_S, as they are exported."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    end_s = START_S + finished.answer.summary.total_s
    trace_runs(provider.get_tracer("test"), clock=lambda: end_s)(finished)
    return list(exporter.get_finished_spans())


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def interval_s(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None and span.end_time is not None
    return span.start_time / 1e9 - START_S, span.end_time / 1e9 - START_S


def test_there_is_a_span_for_the_run_each_agent_and_each_step() -> None:
    (finished,) = finish("mix")
    spans = spans_of(finished)
    steps = [one.steps for one in finished.answer.summary.agents]
    names = sorted(span.name for span in spans)
    agents = ["invoke_agent a", "invoke_agent p.1", "invoke_agent p.2"]
    assert names == [*["chat a"] * steps[2], *["chat p"] * (steps[0] + steps[1]), *agents, "invoke_workflow mix"]


def test_spans_lie_in_each_other_and_have_the_times_of_the_events() -> None:
    spans = spans_of(finish("mix")[0])
    (run,) = named(spans, "invoke_workflow mix")
    (agent,) = named(spans, "invoke_agent a")
    first, *_ = named(spans, "chat a")
    assert run.parent is None and run.context is not None and agent.context is not None
    assert agent.parent is not None and agent.parent.span_id == run.context.span_id
    assert first.parent is not None and first.parent.span_id == agent.context.span_id
    assert interval_s(run)[0] == 0.0
    assert interval_s(first)[0] == 0.75  # when both proposers had written two words
    assert first.kind is SpanKind.CLIENT and run.kind is SpanKind.INTERNAL


def test_attributes_are_those_of_the_conventions_and_hold_no_prompt() -> None:
    finished = finish("mix")[0]
    spans = spans_of(finished)
    (run,) = named(spans, "invoke_workflow mix")
    assert attributes(run)["gen_ai.workflow.name"] == "mix"
    assert attributes(run)["gen_ai.response.id"] == finished.run_id
    assert attributes(run)["gen_ai.response.time_to_first_chunk"] == 1.0
    step = attributes(named(spans, "chat p")[0])
    assert step["gen_ai.operation.name"] == "chat"
    assert (step["gen_ai.provider.name"], step["gen_ai.request.model"]) == ("scripted", "p")
    assert (step["gen_ai.usage.output_tokens"], step["gen_ai.response.time_to_first_chunk"]) == (4, 0.5)
    assert step["gen_ai.response.finish_reasons"] == ("stop",)
    assert "sky" not in str([attributes(span) for span in spans])


def test_failures_are_marked_and_a_fallback_has_its_own_name() -> None:
    spans = spans_of(finish("failing")[0])
    (agent,) = named(spans, "invoke_agent broken")
    assert agent.status.status_code is StatusCode.ERROR
    assert attributes(agent)["error.type"] == "failed"
    assert [step.status.status_code for step in named(spans, "chat bad")] == [StatusCode.ERROR]
    assert [step.status.status_code for step in named(spans, "chat a")] == [StatusCode.UNSET]
    (run,) = named(spans, "invoke_workflow failing")
    assert run.status.status_code is StatusCode.UNSET
    assert "stairstream.degraded" in attributes(run)


def test_a_trace_is_a_pure_value() -> None:
    finished = finish("mix")[0]
    assert make_trace(finished) == make_trace(finished)
    assert [one.name for one in make_trace(finished).inner] == [
        "invoke_agent p.1",
        "invoke_agent p.2",
        "invoke_agent a",
    ]


def test_traceparent_of_a_request_is_the_parent_of_what_runs_in_it() -> None:
    (finished,) = finish("broken")
    found: list[ReadableSpan] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:  # runs live in tasks of their own
            tasks.create_task(observe())

    async def observe() -> None:
        found.extend(spans_of(finished))

    async def nothing(message: AsgiMessage | None = None) -> AsgiMessage:
        return {}

    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = [(b"traceparent", f"00-{trace}-{span}-01".encode())]
    asyncio.run(Parented(app)({"type": "http", "headers": headers}, nothing, nothing))  # type: ignore[arg-type]
    (run,) = named(found, "invoke_workflow broken")
    assert run.parent is not None and run.context is not None
    assert f"{run.context.trace_id:032x}" == trace
    assert f"{run.parent.span_id:016x}" == span
    assert context.get_current() == {}
