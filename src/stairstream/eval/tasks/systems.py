"""The systems to compare: each model of a pipeline alone, the pipeline with waiting, and with each given policy."""

from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.config.choosing import choose_policy
from stairstream.config.graphs import build_graph, shorten_answers
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.policies import ARGUMENTS, NAMES, PolicyPaths
from stairstream.config.schema import Config
from stairstream.config.topologies import SingleKeys
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph

WAIT = "wait"
SINGLE = "single"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system that answers, with its name in tables; `model` is set if it is a single model."""

    name: str
    settings: PipelineConfig
    graph: Graph
    model: str | None = None


def list_systems(
    config: Config,
    pipeline: PipelineConfig,
    policies: Sequence[str],
    max_tokens: int | None,
    paths: PolicyPaths = ARGUMENTS,
) -> tuple[System, ...]:
    """The single models, the answering one first; then `wait`; then the policies, or the pipeline's own without any.

    Raises ConfigError for a pipeline that is a single model, or for an unknown policy, which `paths` name.
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
        settings[policy] = choose_policy(config, pipeline, policy, (), paths)
    if not policies and pipeline.policy_name != WAIT:
        settings[pipeline.policy_name if pipeline.policy_name in NAMES else "own policy"] = pipeline
    return tuple(
        System(
            name=name,
            settings=one,
            graph=shorten_answers(build_graph(config.models, one), max_tokens),
            model=alone.get(name),
        )
        for name, one in settings.items()
    )
