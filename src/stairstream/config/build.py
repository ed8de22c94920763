"""From a configuration to things that run: backends that live as long as a block.

Engines are imported on first use.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import CallLimits, Limited
from stairstream.backends.retry import Retrying
from stairstream.config.graphs import models_of
from stairstream.config.models import CommonKeys, ModelConfig
from stairstream.config.schema import Config
from stairstream.core.graph import Graph

if TYPE_CHECKING:
    from stairstream.backends.remote.channel import Dialler

T = TypeVar("T")


class Engine(Protocol):
    """A model in memory, which several backends may share."""

    async def start(self) -> None:
        """Load it."""

    async def aclose(self) -> None:
        """Let go of it."""


E = TypeVar("E", bound=Engine)

Loading = Callable[[str], AbstractContextManager[object]]
"""Called with the name of a model before it is loaded; the block lasts as long as the loading."""


@asynccontextmanager
async def open_backends(
    config: Config,
    graphs: Sequence[Graph],
    loading: Loading = nullcontext,
    limits: CallLimits | None = None,
    remote: "Mapping[str, Dialler] | None" = None,
) -> AsyncIterator[Mapping[str, Backend]]:
    """A backend for each model of the graphs, by name, with embedded engines loaded; all are closed on leaving.

    Models in `remote` are loaded in other processes, which its diallers reach. `limits` makes the limits of models that
    several processes share; without it each process has its own.
    An engine has room for one run of the graph that needs most of it, unless its `slots` say otherwise.
    """
    rng = random.Random()
    async with open_engines(config, graphs, loading) as engines:
        backends: dict[str, Backend] = {}
        for name in dict.fromkeys(name for graph in graphs for name in models_of(graph)):
            model, dialler = config.models[name], (remote or {}).get(name)
            backend = await (engines.make_backend(model) if dialler is None else _reach(dialler, name))
            backends[name] = wrap(name, backend, model.common, rng, limits)
        yield backends


async def _reach(dialler: "Dialler", name: str) -> Backend:
    from stairstream.backends.remote.backend import RemoteBackend

    return await RemoteBackend.reach(dialler, name)


def wrap(name: str, backend: Backend, keys: CommonKeys, rng: random.Random, limits: CallLimits | None) -> Backend:
    """The wrappers that are configured, always in this order: each try of a retried or hedged call needs its permit."""
    if keys.max_concurrency is not None or keys.requests_per_minute is not None:
        backend = Limited(
            backend,
            max_concurrency=keys.max_concurrency,
            requests_per_minute=keys.requests_per_minute,
            model=name,
            limits=limits,
        )
    if keys.hedge_after_s is not None:
        backend = Hedged(backend, hedge_after_s=keys.hedge_after_s)
    if keys.attempts > 1:
        backend = Retrying(backend, attempts=keys.attempts, rng=rng)
    return backend


@asynccontextmanager
async def open_engines(
    config: Config, graphs: Sequence[Graph], loading: Loading = nullcontext
) -> AsyncIterator["Engines"]:
    """The engines that backends share, for the length of the block."""
    async with AsyncExitStack() as stack:
        yield Engines(config, graphs, stack, loading)


class Engines:
    """Resources that backends share: a pool of connections, and embedded engines by what they were loaded with."""

    def __init__(self, config: Config, graphs: Sequence[Graph], stack: AsyncExitStack, loading: Loading) -> None:
        self._config = config
        self._graphs = graphs
        self._stack = stack
        self._loading = loading
        self._shared: dict[Hashable, Any] = {}

    async def make_backend(self, model: ModelConfig) -> Backend:
        """A backend for a model, on an engine that is there or on a new one; it is closed with the engines."""
        return await model.kind.open(model.keys, model, self)

    async def share(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The resource that was made for this key, or is made now."""
        if key not in self._shared:
            self._shared[key] = await make()
        return cast(T, self._shared[key])

    async def load(self, key: Hashable, make: Callable[[], E], name: str) -> E:
        """The engine that was made for this key, or is made and started now, for the model of that name."""

        async def start() -> E:
            engine = make()
            self.close_later(engine.aclose)
            with self._loading(name):
                await engine.start()
            return engine

        return await self.share(key, start)

    def close_later(self, aclose: Callable[[], Awaitable[None]]) -> None:
        """Call this when the engines are closed."""
        self._stack.push_async_callback(aclose)

    def count_sessions(self, keys: object) -> int:
        """The most sessions that one run has on the engine of these keys."""
        return count_sessions(self._config, self._graphs, keys)


def count_sessions(config: Config, graphs: Sequence[Graph], keys: object) -> int:
    """The most sessions that one run of these graphs has on the engine of these keys."""
    models = {name for name, model in config.models.items() if model.keys == keys}
    counts = (sum(not models.isdisjoint((agent.model, *agent.fallbacks)) for agent in graph.agents) for graph in graphs)
    return max(counts, default=0) or 1
