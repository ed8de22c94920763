"""Who is compared: each model of a pipeline alone, the pipeline with waiting, and with every policy asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stairstream.api import choose_policy
from stairstream.config.graphs import build_graph
from stairstream.config.models import LlamaCppKeys, ModelConfig, TorchKeys, VllmKeys, names_of
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.schema import Config
from stairstream.config.topologies import SingleKeys
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph
from stairstream.eval.identity import name_model

WAIT = "wait"
SINGLE = "single"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One that answers, under the name that it has in tables; `model` is the model's if it is one alone."""

    name: str
    settings: PipelineConfig
    graph: Graph
    model: str | None = None


def list_systems(
    config: Config, pipeline: PipelineConfig, policies: Sequence[str], max_tokens: int | None
) -> tuple[System, ...]:
    """The single models, the answering one first; then `wait`; then the policies, or the pipeline's own if none.

    Raises ConfigError for a pipeline that is a single model, or a policy that is none.
    """
    graph = build_graph(config.models, pipeline)
    answering = graph.agent(graph.answer)
    if not answering.reads:
        raise ConfigError(f"pipeline {pipeline.name!r} is a single model; name one of several agents with --pipeline")
    models = dict.fromkeys((answering.model, *(agent.model for agent in graph.agents)))
    settings = {
        SINGLE if len(models) == 1 else f"{SINGLE} {model}": PipelineConfig(name=SINGLE, keys=SingleKeys(model=model))
        for model in models
    }
    alone = dict(zip(settings, models, strict=True))
    settings[WAIT] = choose_policy(config, pipeline, WAIT, ())
    for policy in policies:
        settings[policy] = choose_policy(config, pipeline, policy, ())
    if not policies and pipeline.policy_name != WAIT:
        settings["own policy" if pipeline.policy_name == "custom" else pipeline.policy_name] = pipeline
    return tuple(
        System(
            name=name, settings=one, graph=_shorten(build_graph(config.models, one), max_tokens), model=alone.get(name)
        )
        for name, one in settings.items()
    )


def identify_models(models: Mapping[str, ModelConfig], names: Sequence[str]) -> dict[str, object]:
    """What answers of models depend on besides their agents: their places, and what is in a local model's files.

    Never a key. Raises ConfigError for a local model that is not there.
    """
    return {name: _identify(models[name]) for name in sorted(names)}


def _identify(model: ModelConfig) -> object:
    keys = model.keys
    # what a repr must not hold is no part of what is answered; where a local model lies is none either
    local = _find_local(model)
    hidden = ("api_key", "cache_salt", *(("model",) if local else ()))
    shown = {name: getattr(keys, name) for name in names_of(type(keys)) if name not in hidden}
    return model.backend, shown, name_model(local) if local else None, model.common.forward


def _find_local(model: ModelConfig) -> Path | None:
    match model.keys:
        case LlamaCppKeys(model=name):
            from stairstream.backends.models import find_model

            return find_model(name)
        case TorchKeys(model=name) | VllmKeys(model=name):
            from stairstream.backends.torch.backend import find_torch_model

            return find_torch_model(name)
        case _:
            return None


def _shorten(graph: Graph, max_tokens: int | None) -> Graph:
    if max_tokens is None:
        return graph
    agents = (
        replace(agent, sampling=replace(agent.sampling, max_tokens=min(max_tokens, agent.sampling.max_tokens)))
        for agent in graph.agents
    )
    return replace(graph, agents=tuple(agents))
