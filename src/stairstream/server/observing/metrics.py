"""`/metrics` for Prometheus: outcomes, latencies and usage of runs, per pipeline and model.

Every number of a run is computed from its events by pure functions.
"""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping

import prometheus_client as prometheus
from prometheus_client import multiprocess
from starlette.routing import Route

from stairstream.core.costs import cost_of, usage_by_model
from stairstream.core.events import AgentEnded, Event, Noted
from stairstream.core.graph import Agent
from stairstream.core.session import Note, Usage
from stairstream.server.access.gate import Gate
from stairstream.server.http.exchange import Exchange
from stairstream.server.http.routes import route
from stairstream.server.http.watching import AnsweredRequest
from stairstream.server.runs.finished import Finished

SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which processes count together; prometheus_client reads it when imported."""
NO_ROUTE = "none"
"""The label of paths without a route: a path that a client makes up must not become a label."""


class Metrics:
    """Counts requests and runs, in a registry of its own; in a server of several processes all count together."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        self._requests = self._counter("requests", "Requests, by the status of their answer", "route", "status")
        self._runs = self._counter("runs", "Runs, by how they ended", "pipeline", "ended")
        self._degraded = self._counter(
            "degraded_runs", "Runs that had to do without an agent or a part of its text", "pipeline"
        )
        self._tokens = self._counter(
            "tokens",
            "Tokens; prompt ones are cached, computed, or unknown where the endpoint does not say",
            *("pipeline", "model", "kind"),
        )
        self._cost = self._counter("cost", "Money, in the currency of the models' prices", "pipeline", "model")
        self._errors = self._counter(
            "upstream_errors",
            "Failures of models: retry, failover, failed (its text is kept), dropped (before the first token)",
            *("pipeline", "model", "kind"),
        )
        self._standstills = self._counter(
            "standstills",
            "Agents that no event could wake any more: a fault of stairstream, please report it",
            "pipeline",
        )
        self._updates = self._counter("updates", "Steps of answering agents after their first", "pipeline")
        self._first_token = self._seconds("first_token", "Time to first token (TTFT) of the answer")
        self._longest_gap = self._seconds("longest_gap", "Longest pause between two pieces of an answer, as shown")
        self._longest_gap_written = self._seconds(
            "longest_gap_written", "Longest pause between two pieces of an answer as written, before it is paced"
        )
        self._total = self._seconds("run", "From a run's start to its end")
        self._in_flight = prometheus.Gauge(
            "stairstream_runs_in_flight", "Runs in flight", registry=self.registry, multiprocess_mode="livesum"
        )
        self._in_flight.set(0)

    def count_in_flight(self, number: int) -> None:
        """Set the number of runs in flight."""
        self._in_flight.set(number)

    def count_request(self, answered: AnsweredRequest) -> None:
        """Count a request."""
        self._requests.labels(answered.route or NO_ROUTE, answered.status or "left").inc()

    def count_run(self, finished: Finished) -> None:
        """Count a run."""
        summary, pipeline = finished.answer.summary, finished.answer.pipeline.name
        self._runs.labels(pipeline, summary.reason).inc()
        self._updates.labels(pipeline).inc(summary.updates)
        self._standstills.labels(pipeline).inc(count_standstills(finished.events))
        self._total.labels(pipeline).observe(summary.total_s)
        if summary.first_token_s is not None:
            self._first_token.labels(pipeline).observe(summary.first_token_s)
            self._longest_gap.labels(pipeline).observe(summary.longest_gap_s)
            self._longest_gap_written.labels(pipeline).observe(summary.longest_gap_written_s)
        if summary.degraded:
            self._degraded.labels(pipeline).inc()
        for model, usage in used_by_model(finished).items():
            for kind, number in tokens_by_kind(usage).items():
                self._tokens.labels(pipeline, model, kind).inc(number)
            price = finished.request.pipeline.models[model].common.price
            if price is not None:
                self._cost.labels(pipeline, model).inc(cost_of(usage, price))
        for (model, kind), number in errors_by_model(finished).items():
            self._errors.labels(pipeline, model, kind).inc(number)

    def render(self) -> bytes:
        """The page for Prometheus: of all processes that count together, if there are several."""
        if METRICS_FOLDER not in os.environ:
            return prometheus.generate_latest(self.registry)
        together = prometheus.CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return prometheus.generate_latest(together)

    def _counter(self, name: str, text: str, *labels: str) -> prometheus.Counter:
        return prometheus.Counter(f"stairstream_{name}", text, labels, registry=self.registry)

    def _seconds(self, name: str, text: str) -> prometheus.Histogram:
        return prometheus.Histogram(
            f"stairstream_{name}_seconds", text, ["pipeline"], buckets=SECONDS, registry=self.registry
        )


def used_by_model(finished: Finished) -> dict[str, Usage]:
    """Usage of each model in a run, over all its agents."""
    found: dict[str, Usage] = {}
    for agent in finished.graph.agents:
        for model, usage in usage_by_model(finished.events, agent).items():
            found[model] = found[model] + usage if model in found else usage
    return found


def tokens_by_kind(usage: Usage) -> Mapping[str, int]:
    """Tokens by kind; each token is in one kind."""
    if usage.cached_tokens is None:
        return {"unknown": usage.prompt_tokens, "completion": usage.completion_tokens}
    computed = usage.prompt_tokens - usage.cached_tokens
    return {"cached": usage.cached_tokens, "computed": computed, "completion": usage.completion_tokens}


def count_standstills(events: Iterable[Event]) -> int:
    """Number of agents of a run that were ended because no event could wake them."""
    return sum(isinstance(event, Noted) and event.note.kind == "standstill" for event in events)


def errors_by_model(finished: Finished) -> Counter[tuple[str, str]]:
    """Failures of each model in a run, by their outcome."""
    found: Counter[tuple[str, str]] = Counter()
    for agent in finished.graph.agents:
        found.update(_errors_of(agent, finished.events))
    return found


def _errors_of(agent: Agent, events: Iterable[Event]) -> Iterator[tuple[str, str]]:
    models = deque((agent.model, *agent.fallbacks))
    for event in events:
        match event:
            case Noted(agent=agent.name, note=Note(kind="retry" | "failover" as kind)):
                yield models[0], kind
                if kind == "failover":
                    models.popleft()
            case AgentEnded(agent=agent.name, reason="failed" | "dropped" as reason):
                yield models[0], reason
            case _:
                pass


def make_metrics_route(metrics: Metrics, gate: Gate) -> Route:
    """Returns the route `GET /metrics`, for callers that the gate identifies."""

    async def show(exchange: Exchange) -> None:
        await gate.identify(exchange.headers)
        await exchange.answer(200, metrics.render(), [(b"content-type", prometheus.CONTENT_TYPE_LATEST.encode())])

    return route("GET", "/metrics", show)
