"""The answer of a run as a value: its text, and its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stairstream.config.models import ModelConfig
from stairstream.config.pipelines import PipelineConfig
from stairstream.core.costs import Price, cost_of, cost_of_agent, usage_by_model
from stairstream.core.events import Event, calls_of
from stairstream.core.graph import Graph
from stairstream.core.messages import ToolCall
from stairstream.core.metrics import Summary, model_of, summarize, tokens_saved
from stairstream.core.session import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a run: the text, and the run's numbers.

    `graph` has the policies that the agents used. `models` is the last model of each agent; `costs` is the cost of each
    agent, None where a model has no price; `cost` is None if that leaves it unknown. `tokens_saved` is an estimate of
    the tokens that agents did not write because they were stopped early. `notes` are remarks on the run that are not in
    the summary. `tool_calls` are the calls of the client's tools that the answer asks for. `events` are all events of
    the run. A notebook shows an answer with its staircase.
    """

    text: str
    pipeline: PipelineConfig
    graph: Graph
    models: Mapping[str, str]
    layout: Layout | None
    summary: Summary
    costs: Mapping[str, float | None]
    cost: float | None
    tokens_saved: int
    notes: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    events: tuple[Event, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from stairstream.notebook import draw_answer, state_facts

        reads = self.graph.agent(self.graph.answer).reads
        facts = state_facts(self.summary, self.pipeline.policy_name if reads else None, self.cost)
        reason = self.summary.reason
        ended = () if reason in (None, "stop") else (f"ended: {reason}",)
        remarks = (*ended, *(f"degraded: {line}" for line in self.summary.degraded), *self.notes)
        return draw_answer(self.text, self.graph, self.events, facts, remarks)


class Answering(Protocol):
    """A run, or what is kept of one."""

    @property
    def id(self) -> str: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def answer(self) -> str: ...


def make_answer(
    run: Answering,
    events: Sequence[Event],
    *,
    pipeline: PipelineConfig,
    models: Mapping[str, ModelConfig],
    prices: Mapping[str, Price],
    notes: tuple[str, ...],
) -> Answer:
    """The answer so far of a run with these events; `models` and `prices` are by the name of a model."""
    summary = summarize(events)
    return Answer(
        text=run.answer,
        pipeline=pipeline,
        graph=run.graph,
        models={one.name: model_of(one, run.graph) for one in summary.agents},
        layout=next(one.layout for one in summary.agents if one.name == run.graph.answer),
        summary=summary,
        costs={agent.name: cost_of_agent(events, agent, prices) for agent in run.graph.agents},
        cost=_add_up(events, run.graph, models, prices),
        tokens_saved=tokens_saved(summary, run.graph),
        notes=notes,
        tool_calls=calls_of(events, run.graph.answer),
        events=tuple(events),
    )


def _add_up(
    events: Sequence[Event], graph: Graph, models: Mapping[str, ModelConfig], prices: Mapping[str, Price]
) -> float | None:
    """The run's cost. A model without a price is free if it is local, and makes the cost unknown if remote."""
    names = {name for agent in graph.agents for name in (agent.model, *agent.fallbacks)}
    found = None if names.isdisjoint(prices) else 0.0
    for agent in graph.agents:
        for name, usage in usage_by_model(events, agent).items():
            if name in prices:
                found = (found or 0.0) + cost_of(usage, prices[name])
            elif models[name].is_remote:
                return None
    return found
