"""The speed of each model in earlier runs: moving estimates in a small JSON file, for adaptive policies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from stairstream.backends.json_files import load_json, store_json
from stairstream.backends.models import models_folder
from stairstream.config.models import ModelConfig
from stairstream.core.adaptive import Goals, Rate, adapt_graph, observe
from stairstream.core.events import Event
from stairstream.core.graph import Graph
from stairstream.core.metrics import summarize


class _File(msgspec.Struct, kw_only=True):
    version: int = 1
    rates: dict[str, Rate] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The estimates on disk. A file that can't be read or written only means that nothing is known."""

    path: Path = field(default_factory=lambda: models_folder().parent / "rates.json")

    def load(self, models: Mapping[str, ModelConfig]) -> dict[str, Rate]:
        """The known rates of these models, by their names in the configuration."""
        known = self._load()
        return {name: known[key] for name, model in models.items() if (key := endpoint_of(model)) in known}

    def observe(self, models: Mapping[str, ModelConfig], graph: Graph, events: Sequence[Event]) -> None:
        """Keep what one more run has shown; what is known of other models stays. A run cut short shows nothing."""
        if summarize(events).reason not in ("stop", "length"):
            return
        found = observe(self.load(models), graph, events)
        new = {endpoint_of(models[name]): rate for name, rate in found.items()}
        store_json(self.path, _File(rates={**self._load(), **new}))

    def _load(self) -> dict[str, Rate]:
        rates = load_json(self.path, _File).rates
        return {endpoint: rate for endpoint, rate in rates.items() if rate.tokens_per_s > 0 and rate.answer_tokens > 0}


def endpoint_of(model: ModelConfig) -> str:
    """Names a model and its endpoint, whatever a configuration calls it; holds no key."""
    kind = model.kind
    name = kind.model(model.keys) if kind.model else model.name
    if kind.url is None:
        return f"{model.backend} {name}"
    parts = urlsplit(kind.url(model.keys))  # without a user name and a password, where there are some
    return f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')} {name}"


def adapt_agents(graph: Graph, rates: Mapping[str, Rate], goals: Mapping[str, Goals]) -> Graph:
    """The graph with the policies of agents that have goals adapted, where the rates of all their models are known."""
    for agent, its in goals.items():
        graph = adapt_graph(graph, rates, its, [agent])
    return graph


def why_unadapted(graph: Graph, rates: Mapping[str, Rate], goals: Mapping[str, Goals]) -> tuple[str, ...]:
    """A line on the agents with goals whose policies could not be adapted, if there are any."""
    agents, unknown = [], dict[str, None]()
    for name in goals:
        agent = graph.agent(name)
        models = dict.fromkeys((agent.model, *(graph.agent(upstream).model for upstream in agent.reads)))
        if not_known := [model for model in models if model not in rates]:
            agents.append(name)
            unknown |= dict.fromkeys(not_known)
    if not agents:
        return ()
    return (f"adaptive: no earlier run has shown the speed of {_and(unknown)}; balanced for {_and(agents)} this time",)


def _and(names: Iterable[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last
