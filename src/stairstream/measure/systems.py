"""The systems of a measurement: the answering model alone, `wait`, the staircase; at endpoints or on cost models."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.rates import Rates
from stairstream.config.schema import Config
from stairstream.core.costs import Price
from stairstream.core.graph import Graph
from stairstream.core.tokens import estimate_tokens
from stairstream.engine.pace import default_pace
from stairstream.engine.run import Run
from stairstream.eval.tasks.systems import System as Named
from stairstream.eval.tasks.systems import list_systems
from stairstream.measure.running import System
from stairstream.measure.workload import Ask
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.estimating import ANSWER_TOKENS
from stairstream.plan.simulating import open_simulated
from stairstream.plan.texts import Lengths, fit_lengths, lengths_of, same_lengths

Opener = Callable[[Ask], AbstractAsyncContextManager[Run]]


def choose_systems(
    config: Config, pipeline: PipelineConfig, policies: Sequence[str], max_tokens: int | None
) -> tuple[Named, ...]:
    """The answering model alone, `wait`, and the given policies, or the pipeline's own without any.

    Raises ConfigError for a pipeline that is a single model, or for an unknown policy.
    """
    alone, *others = list_systems(config, pipeline, policies, max_tokens)
    return (alone, *(one for one in others if one.model is None))


def at_endpoints(
    config: Config, systems: Sequence[Named], backends: Mapping[str, Backend], rates: Rates
) -> list[System]:
    """The systems as `ask` would run them, with what earlier runs have shown of their models' speeds."""
    return [
        System(
            name=one.name,
            open=_opener(Pipeline(one.settings, one.graph, backends, config, rates)),
            prices=_prices(config),
        )
        for one in systems
    ]


def _opener(pipeline: Pipeline) -> Opener:
    return lambda ask: pipeline.open_run(ask.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A system on cost models. It writes as much as the question's recorded outputs, else as its models are known to.

    Each call is as fast as its model is under the calls of its own run; runs do not slow each other down.
    """

    graph: Graph
    whole: Graph
    costs: Mapping[str, EndpointCosts]

    def open(self, ask: Ask) -> AbstractAsyncContextManager[Run]:
        """The run on a question, on the clock of the loop."""
        lengths = fit_lengths(self.graph, self._lengths(ask), self.whole)
        return open_simulated(self.graph, self.costs, lengths, None, default_pace(self.graph))

    def _lengths(self, ask: Ask) -> Lengths:
        if ask.outputs:
            return lengths_of(ask.id, ask.text, ask.outputs, self.whole)
        known = {name: one.answer_tokens for name, one in self.costs.items()}
        return replace(same_lengths(self.whole, known, ANSWER_TOKENS)[0], question=estimate_tokens(ask.text))


def on_cost_models(config: Config, systems: Sequence[Named], costs: Mapping[str, EndpointCosts]) -> list[System]:
    """The systems on cost models, for a loop in virtual time."""
    prices, whole = _prices(config), systems[-1].graph
    return [
        System(
            name=one.name,
            open=Simulated(graph=one.graph, whole=whole, costs=costs).open,
            prices={agent.name: prices[agent.model] for agent in one.graph.agents if agent.model in prices},
        )
        for one in systems
    ]


def _prices(config: Config) -> dict[str, Price]:
    return {name: model.common.price for name, model in config.models.items() if model.common.price}
