"""From a configuration to things that run: backends that live as long as a block.

Engines are imported on first use.
"""

import math
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, assert_never

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.config.graphs import models_of
from stairstream.config.models import (
    CommonKeys,
    LlamaCppKeys,
    ModelConfig,
    OpenAIKeys,
    ScriptedKeys,
    TorchKeys,
    VllmKeys,
)
from stairstream.config.schema import Config
from stairstream.core.graph import Graph

if TYPE_CHECKING:
    from stairstream.backends.capabilities import Capabilities
    from stairstream.backends.http import HttpPool
    from stairstream.backends.llamacpp import LlamaCpp
    from stairstream.backends.torch.backend import TorchModel
    from stairstream.backends.vllm.backend import Vllm


Loading = Callable[[str], AbstractContextManager[object]]
"""Called with the name of a model before it is loaded; the block lasts as long as the loading."""


@asynccontextmanager
async def open_backends(
    config: Config, graphs: Sequence[Graph], loading: Loading = nullcontext
) -> AsyncIterator[Mapping[str, Backend]]:
    """A backend for each model of the graphs, by name, with embedded engines loaded; all are closed on leaving.

    An engine has room for one run of the graph that needs most of it, unless its `slots` say otherwise.
    """
    rng = random.Random()
    async with open_engines(config, graphs, loading) as engines:
        backends: dict[str, Backend] = {}
        for name in dict.fromkeys(name for graph in graphs for name in models_of(graph)):
            model = config.models[name]
            backends[name] = wrap(await engines.make_backend(model), model.common, rng)
        yield backends


def wrap(place: Backend, keys: CommonKeys, rng: random.Random) -> Backend:
    """The wrappers that are configured, always in this order: each try of a retried or hedged call needs its permit."""
    backend = place
    if keys.max_concurrency is not None or keys.requests_per_minute is not None:
        backend = Limited(backend, max_concurrency=keys.max_concurrency, requests_per_minute=keys.requests_per_minute)
    if keys.hedge_after_s is not None:
        backend = Hedged(backend, hedge_after_s=keys.hedge_after_s)
    if keys.attempts > 1:
        backend = Retrying(backend, attempts=keys.attempts, rng=rng)
    return backend


@asynccontextmanager
async def open_engines(
    config: Config, graphs: Sequence[Graph], loading: Loading = nullcontext
) -> AsyncIterator["Engines"]:
    """What backends share, for the length of the block."""
    async with AsyncExitStack() as stack:
        yield Engines(config, graphs, stack, loading)


class Engines:
    """What several backends share: a pool of connections, and embedded engines by what they were loaded with."""

    def __init__(self, config: Config, graphs: Sequence[Graph], stack: AsyncExitStack, loading: Loading) -> None:
        self._config = config
        self._graphs = graphs
        self._stack = stack
        self._loading = loading
        self._llamas: dict[LlamaCppKeys, LlamaCpp] = {}
        self._torches: dict[TorchKeys, TorchModel] = {}
        self._vllms: dict[VllmKeys, Vllm] = {}
        self._web: tuple[HttpPool, Capabilities] | None = None

    async def make_backend(self, model: ModelConfig) -> Backend:
        """A backend for a model, on an engine that is there or on a new one; it is closed with the engines."""
        match model.keys:
            case ScriptedKeys() as keys:
                return ScriptedBackend(_make_script(model.name, keys), model=model.name, takes=keys.takes)
            case OpenAIKeys() as keys:
                return self._make_openai(keys, model.common.thinking_tokens or 0)
            case LlamaCppKeys() as keys:
                return await self._make_llamacpp(model.name, keys)
            case TorchKeys() as keys:
                return await self._make_torch(model.name, keys)
            case VllmKeys() as keys:
                return await self._make_vllm(model.name, keys)
            case never:
                assert_never(never)

    def _make_openai(self, keys: OpenAIKeys, thinking_tokens: int) -> Backend:
        from stairstream.backends.capabilities import Capabilities
        from stairstream.backends.http import HttpPool
        from stairstream.backends.models import models_folder
        from stairstream.backends.openai import OpenAIBackend

        if self._web is None:
            self._web = HttpPool(), Capabilities(path=models_folder().parent / "capabilities.json")
            self._stack.push_async_callback(self._web[0].aclose)
        pool, capabilities = self._web
        return OpenAIBackend(
            base_url=keys.base_url,
            model=keys.model,
            pool=pool,
            capabilities=capabilities,
            api_key=keys.api_key,
            continues=None if keys.continues == "auto" else keys.continues,
            reasoning=keys.reasoning,
            thinking_tokens=thinking_tokens,
            cache_salt=keys.cache_salt,
            session_header=keys.session_header,
            prefetches=keys.prefetch,
            takes=keys.takes,
        )

    async def _make_llamacpp(self, name: str, keys: LlamaCppKeys) -> Backend:
        from stairstream.backends.llamacpp import LlamaCpp, LlamaCppBackend
        from stairstream.backends.models import find_model

        if keys not in self._llamas:
            llama = LlamaCpp(
                find_model(keys.model),
                slots=keys.slots or self._count_sessions(keys),
                context_tokens=keys.context_tokens,
                threads=keys.threads,
                drafts_ngrams=keys.drafts_ngrams,
            )
            self._stack.push_async_callback(llama.aclose)
            with self._loading(name):
                await llama.start()
            self._llamas[keys] = llama
        return LlamaCppBackend(self._llamas[keys], keys.model)

    async def _make_torch(self, name: str, keys: TorchKeys) -> Backend:
        from stairstream.backends.models import find_weights
        from stairstream.backends.torch.backend import TorchBackend, TorchModel

        if keys not in self._torches:
            torch = TorchModel(
                find_weights(keys.model),
                dtype=keys.dtype,
                threads=keys.threads,
                context_tokens=keys.context_tokens,
            )
            self._stack.push_async_callback(torch.aclose)
            with self._loading(name):
                await torch.start()
            self._torches[keys] = torch
        return TorchBackend(self._torches[keys], keys.model)

    async def _make_vllm(self, name: str, keys: VllmKeys) -> Backend:
        from stairstream.backends.models import find_weights
        from stairstream.backends.vllm.backend import Vllm, VllmBackend

        if keys not in self._vllms:
            vllm = Vllm(
                find_weights(keys.model),
                sessions=keys.slots,
                context_tokens=keys.context_tokens,
                quantum_tokens=keys.quantum_tokens,
                dtype=keys.dtype,
            )
            self._stack.push_async_callback(vllm.aclose)
            with self._loading(name):
                await vllm.start()
            self._vllms[keys] = vllm
        return VllmBackend(self._vllms[keys], keys.model)

    def _count_sessions(self, keys: LlamaCppKeys) -> int:
        """How many sessions one run has on the engine of these keys, at most."""
        models = {name for name, model in self._config.models.items() if model.keys == keys}
        counts = (
            sum(not models.isdisjoint((agent.model, *agent.fallbacks)) for agent in graph.agents)
            for graph in self._graphs
        )
        return max(counts, default=0) or 1


def _make_script(name: str, keys: ScriptedKeys) -> Script:
    words = keys.words or split_words(keys.text or "") or numbered_words(f"{name}_", keys.length or 0)
    return Script(
        words=words,
        thoughts=split_words(keys.thoughts or ""),
        first_token_s=keys.first_token_s,
        token_s=keys.token_s,
        prefill_tokens_per_s=keys.prefill_tokens_per_s or math.inf,
        fault=Fault(**asdict(keys.fault)) if keys.fault else None,
    )


def split_words(text: str) -> tuple[str, ...]:
    """A text as tokens: its words, each but the first with the white space before it."""
    return tuple(re.findall(r"\s*\S+\s*\Z|\s*\S+", text))
