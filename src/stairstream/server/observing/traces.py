"""OpenTelemetry traces by its GenAI conventions: a workflow, its agents, and each call of a model.

Spans are made from a run's events when it is over, with the events' times; they hold no prompt and no answer.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stairstream.config.models import ModelConfig
from stairstream.config.server import TraceKeys
from stairstream.core.errors import MissingExtra
from stairstream.core.events import (
    AgentEnded,
    Event,
    LayoutChosen,
    Noted,
    StepEnded,
    StepStarted,
    Thought,
    Wrote,
    as_written,
)
from stairstream.core.graph import Agent
from stairstream.core.session import Note
from stairstream.server.http.exchange import AsgiApp, Exchange, Receive, Scope, Send
from stairstream.server.runs.finished import Finished, Observer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

FLUSH_S = 2.0
"""Time to export the last spans when the server stops."""

Value = str | int | float | bool | Sequence[str]


@dataclass(slots=True, kw_only=True)
class Traced:
    """A span to be made. Times are in seconds since the run began; `error` is None if it succeeded."""

    name: str
    operation: str
    start_s: float
    end_s: float
    attributes: dict[str, Value] = field(default_factory=dict)
    error: str | None = None
    inner: "list[Traced]" = field(default_factory=list)


def make_trace(finished: Finished) -> Traced:
    """A run as a tree of spans: workflow, agents, steps."""
    answer, summary, events = finished.answer, finished.answer.summary, as_written(finished.events)
    name = answer.pipeline.name
    models = finished.request.pipeline.models
    return Traced(
        name=f"invoke_workflow {name}",
        operation="invoke_workflow",
        start_s=0.0,
        end_s=summary.total_s,
        attributes=_known(
            {
                "gen_ai.workflow.name": name,
                "gen_ai.response.id": finished.run_id,
                "gen_ai.response.finish_reasons": [summary.reason or ""],
                "gen_ai.response.time_to_first_chunk": summary.first_token_s,
                "stairstream.longest_gap_s": summary.longest_gap_s,
                "stairstream.longest_gap_written_s": summary.longest_gap_written_s,
                "stairstream.updates": summary.updates,
                "stairstream.cost": answer.cost,
                "stairstream.degraded": list(summary.degraded) or None,
            }
        ),
        error=summary.error,
        inner=[_trace_agent(agent, events, models) for agent in finished.graph.agents],
    )


def _trace_agent(agent: Agent, events: Sequence[Event], models: Mapping[str, ModelConfig]) -> Traced:
    own = [event for event in events if getattr(event, "agent", None) == agent.name]
    end = next((event for event in own if isinstance(event, AgentEnded)), None)
    steps = list(_trace_steps(agent, own, models))
    return Traced(
        name=f"invoke_agent {agent.name}",
        operation="invoke_agent",
        start_s=steps[0].start_s if steps else 0.0,
        end_s=end.at_s if end else events[-1].at_s,
        attributes=_known(
            {
                "gen_ai.agent.name": agent.name,
                "gen_ai.provider.name": models[agent.model].backend,
                "gen_ai.request.model": agent.model,
                "gen_ai.request.max_tokens": agent.sampling.max_tokens,
                "gen_ai.response.finish_reasons": [end.reason] if end else None,
                "stairstream.reads": list(agent.reads) or None,
            }
        ),
        error=(end.error or end.reason) if end and end.reason in ("failed", "dropped") else None,
        inner=steps,
    )


def _trace_steps(agent: Agent, own: Sequence[Event], models: Mapping[str, ModelConfig]) -> Iterator[Traced]:
    """A span for each step that has ended; a fallback's steps name the fallback."""
    models_left = deque((agent.model, *agent.fallbacks))
    started: StepStarted | None = None
    first_s: float | None = None
    layout: str | None = None
    for event in own:
        match event:
            case LayoutChosen():
                layout = event.layout
            case StepStarted():
                started, first_s = event, None
            case Wrote() | Thought():
                first_s = event.at_s if first_s is None else first_s
            case Noted(note=Note(kind="failover")):
                models_left.popleft()
            case StepEnded() if started is not None:
                until_first_s = None if first_s is None else first_s - started.at_s
                yield _trace_step(started, event, models[models_left[0]], layout, until_first_s)
                started = None
            case _:
                pass


def _trace_step(
    started: StepStarted, ended: StepEnded, model: ModelConfig, layout: str | None, until_first_s: float | None
) -> Traced:
    usage = ended.usage
    return Traced(
        name=f"chat {model.name}",
        operation="chat",
        start_s=started.at_s,
        end_s=ended.at_s,
        attributes=_known(
            {
                "gen_ai.provider.name": model.backend,
                "gen_ai.request.model": model.name,
                "gen_ai.agent.name": started.agent,
                "gen_ai.response.finish_reasons": [ended.reason],
                "gen_ai.response.time_to_first_chunk": until_first_s,
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
                "stairstream.step": started.step,
                "stairstream.layout": layout,
                "stairstream.usage_is_estimate": usage.is_estimate,
            }
        ),
        error="failed" if ended.reason == "failed" else None,
    )


def _known(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


# With OpenTelemetry


def trace_runs(tracer: "Tracer", clock: Callable[[], float] = time.time) -> Observer:
    """Returns an observer that exports each run's spans, as children of the span in the request's `traceparent`."""
    from opentelemetry import context

    def observe(finished: Finished) -> None:
        start_s = clock() - finished.answer.summary.total_s
        _emit(tracer, make_trace(finished), start_s, context.get_current())

    return observe


def _emit(tracer: "Tracer", traced: Traced, start_s: float, parent: "Context") -> None:
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

    span = tracer.start_span(
        traced.name,
        parent,
        SpanKind.CLIENT if traced.operation == "chat" else SpanKind.INTERNAL,
        {"gen_ai.operation.name": traced.operation, **traced.attributes},
        start_time=_ns(start_s + traced.start_s),
    )
    if traced.error is not None:
        span.set_attribute("error.type", traced.attributes["gen_ai.response.finish_reasons"][0])  # type: ignore[index]
        span.set_status(Status(StatusCode.ERROR, traced.error))
    inner = set_span_in_context(span, parent)
    for one in traced.inner:
        _emit(tracer, one, start_s, inner)
    span.end(_ns(start_s + traced.end_s))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class Parented:
    """The app, with the span in a request's `traceparent` as the current parent span."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from opentelemetry import context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers = Exchange(scope, receive, send).headers
        token = context.attach(TraceContextTextMapPropagator().extract(headers))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


@contextmanager
def open_tracer(keys: TraceKeys) -> Iterator["Tracer"]:
    """Open a tracer that exports to the endpoint, and flushes on leaving. MissingExtra if it isn't installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as exc:
        text = f"traces need {exc.name}; install it with: pip install 'stairstream[otel]'"
        raise MissingExtra(text) from None
    assert keys.endpoint is not None
    provider = TracerProvider(resource=Resource.create({"service.name": keys.service_name}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{keys.endpoint.rstrip('/')}/v1/traces", timeout=FLUSH_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider.get_tracer("stairstream")
    finally:
        _close(provider)


def _close(provider: "TracerProvider") -> None:
    provider.force_flush(timeout_millis=round(FLUSH_S * 1000))
    provider.shutdown()
