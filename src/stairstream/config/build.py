"""From a configuration to things that run: graphs, and backends that live as long as a block.

Engines are imported on first use.
"""

import math
import random
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from typing import assert_never

from stairstream.backends.base import Backend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.config.schema import (
    Config,
    LlamaCppKeys,
    MixtureKeys,
    ModelConfig,
    OpenAIKeys,
    PipelineConfig,
    SamplingKeys,
    ScriptedKeys,
    SingleKeys,
)
from stairstream.core.graph import Graph, Sampling
from stairstream.core.topologies import mixture, single


def build_graph(config: Config, pipeline: PipelineConfig) -> Graph:
    """The agents of a pipeline, with their models' sampling and deadlines."""
    graph = _topology(config, pipeline)
    agents = []
    for agent in graph.agents:
        deadlines = config.models[agent.model].common.deadlines
        agents.append(replace(agent, first_token_s=deadlines.first_token_s, gap_s=deadlines.gap_s))
    return replace(graph, agents=tuple(agents))


def _topology(config: Config, pipeline: PipelineConfig) -> Graph:
    own = {name: config.models[name].sampling for name in pipeline.models}
    sampling = {name: merge_sampling(keys) for name, keys in own.items()}
    match pipeline.keys:
        case MixtureKeys() as keys:
            return mixture(
                proposers=keys.proposers,
                aggregator=keys.aggregator,
                layers=keys.layers,
                policy=pipeline.policy,
                layout=keys.layout,
                sampling=sampling,
                proposer_sampling={name: merge_sampling(own[name], keys.proposer_sampling) for name in keys.proposers},
            )
        case SingleKeys() as keys:
            return single(keys.model, sampling=sampling[keys.model])
        case never:
            assert_never(never)


def merge_sampling(*layers: SamplingKeys) -> Sampling:
    """The sampling that the layers make together; a later one comes before an earlier one."""
    found = Sampling()
    for layer in layers:
        found = replace(found, **{key: value for key, value in asdict(layer).items() if value is not None})
    return found


@asynccontextmanager
async def open_backends(config: Config, models: Iterable[str]) -> AsyncIterator[Mapping[str, Backend]]:
    """A backend for each of the models, by name; all are closed, with their engines and connections, on leaving."""
    rng = random.Random()
    async with AsyncExitStack() as stack:
        backends: dict[str, Backend] = {}
        for name in models:
            model = config.models[name]
            backend = _make_backend(model)
            stack.push_async_callback(backend.aclose)
            backends[name] = Retrying(backend, attempts=model.common.attempts, rng=rng)
        yield backends


def _make_backend(model: ModelConfig) -> Backend:
    match model.keys:
        case ScriptedKeys() as keys:
            return ScriptedBackend(_make_script(model.name, keys), model=model.name)
        case OpenAIKeys():
            raise NotImplementedError
        case LlamaCppKeys():
            raise NotImplementedError
        case never:
            assert_never(never)


def _make_script(name: str, keys: ScriptedKeys) -> Script:
    words = keys.words or split_words(keys.text or "") or numbered_words(f"{name}_", keys.length or 0)
    return Script(
        words=words,
        first_token_s=keys.first_token_s,
        token_s=keys.token_s,
        prefill_tokens_per_s=keys.prefill_tokens_per_s or math.inf,
        fault=Fault(**asdict(keys.fault)) if keys.fault else None,
    )


def split_words(text: str) -> tuple[str, ...]:
    """A text as tokens: its words, each but the first with the white space before it."""
    return tuple(re.findall(r"\s*\S+\s*\Z|\s*\S+", text))
