"""The speed of each model in earlier runs: moving estimates, kept in a small JSON file from one process to the next."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from stairstream.backends.json_files import load_json, store_json
from stairstream.backends.models import models_folder
from stairstream.config.models import ModelConfig
from stairstream.core.adaptive import Goals, Rate, adapt_graph, observe
from stairstream.core.events import Event, RunEnded
from stairstream.core.graph import Graph

STORE_EVERY_S = 10.0
"""The file is written at most so often, and when the one who holds the rates closes them."""


class _File(msgspec.Struct, kw_only=True):
    version: int = 1
    rates: dict[str, Rate] = {}


def usual_file() -> Path:
    """The file that is used where nobody names another."""
    return models_folder().parent / "rates.json"


class Rates:
    """The estimates, kept in memory and stored on disk. A file that can't be read or written only means that nothing
    is known.

    `observe` costs one look at each event of a run; a thread writes the file, seldom, so that no event loop waits.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path or usual_file()
        self._clock = clock
        self._known: dict[str, Rate] | None = None
        self._new: dict[str, Rate] = {}
        self._stored_s = -math.inf
        self._storing: threading.Thread | None = None

    def load(self, models: Mapping[str, ModelConfig]) -> dict[str, Rate]:
        """The known rates of these models, by their names in the configuration."""
        if self._known is None:
            self._known = _load(self.path)
        known = self._known
        return {name: known[key] for name, model in models.items() if (key := endpoint_of(model)) in known}

    def observe(self, models: Mapping[str, ModelConfig], graph: Graph, events: Sequence[Event]) -> None:
        """Keep what one more run has shown; what is known of other models stays. A run cut short shows nothing."""
        end = events[-1] if events else None
        if not isinstance(end, RunEnded) or end.reason not in ("stop", "length"):
            return
        before = self.load(models)
        found = observe(before, graph, events)
        new = {endpoint_of(models[name]): rate for name, rate in found.items() if before.get(name) != rate}
        assert self._known is not None
        self._known.update(new)
        self._new.update(new)
        if self._clock() - self._stored_s >= STORE_EVERY_S:
            self._store()

    def close(self) -> None:
        """Store what is not stored yet."""
        if self._storing is not None:
            self._storing.join()
        self._store()
        if self._storing is not None:
            self._storing.join()

    def _store(self) -> None:
        """Put what is new into the file, in a thread; other processes may have changed the rest of it."""
        if not self._new or (self._storing is not None and self._storing.is_alive()):
            return
        new, self._new, self._stored_s = self._new, {}, self._clock()
        self._storing = threading.Thread(target=_add, args=(self.path, new), name="stairstream-rates")
        self._storing.start()


def _load(path: Path) -> dict[str, Rate]:
    rates = load_json(path, _File).rates
    return {endpoint: rate for endpoint, rate in rates.items() if rate.tokens_per_s > 0 and rate.answer_tokens > 0}


def _add(path: Path, new: Mapping[str, Rate]) -> None:
    store_json(path, _File(rates={**_load(path), **new}))


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
