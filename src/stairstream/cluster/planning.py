"""The deployments that a configuration becomes on a cluster: one of the server itself, and one for each engine."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stairstream.config.graphs import build_graph, models_of
from stairstream.config.models import ModelConfig
from stairstream.config.replicas import ReplicaKeys
from stairstream.config.schema import Config
from stairstream.core.errors import ConfigError

APPLICATION = "stairstream"
FRONT = "front"

MOST_SESSIONS = 100_000
"""Sessions at once on one replica of an engine, for Ray: the engine itself knows how many it has slots for."""

CLOSING_S = 5.0
"""Time for what is left to do once every answer has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """A deployment of an engine: the models that share it, and its copies."""

    name: str
    models: tuple[str, ...]
    replicas: ReplicaKeys


def plan_engines(config: Config) -> tuple[EnginePlan, ...]:
    """One engine for each model that loads something, or says `replicas`, and that a pipeline uses.

    Models that differ only in sampling and the like share an engine, as they do in one process. Raises ConfigError for
    models of one engine that differ in `replicas`.
    """
    shared: list[list[ModelConfig]] = []
    for model in _in_use(config):
        if not model.has_engine:
            continue
        for group in shared:
            if group[0].keys == model.keys:
                group.append(model)
                break
        else:
            shared.append([model])
    # of signs that Ray and its metrics take
    names = distinct("engine-" + re.sub(r"[^A-Za-z0-9_.-]", "_", group[0].name) for group in shared)
    return tuple(_plan(config, name, group) for name, group in zip(names, shared, strict=True))


def _in_use(config: Config) -> Iterator[ModelConfig]:
    graphs = [build_graph(config.models, pipeline) for pipeline in config.pipelines.values()]
    for name in dict.fromkeys(name for graph in graphs for name in models_of(graph)):
        yield config.models[name]


def _plan(config: Config, name: str, group: list[ModelConfig]) -> EnginePlan:
    said = {model.common.replicas for model in group if model.common.replicas is not None}
    if len(said) > 1:
        names = " and ".join(model.name for model in group)
        raise ConfigError(f"{config.file}: models {names} share an engine, and their replicas differ; give it once")
    return EnginePlan(
        name=name, models=tuple(model.name for model in group), replicas=next(iter(said), None) or ReplicaKeys()
    )


def distinct(names: Iterable[str]) -> list[str]:
    """These names, but no two the same: later ones get a number."""
    found: list[str] = []
    for base in names:
        number = 1
        while (chosen := base if number == 1 else f"{base}-{number}") in found:
            number += 1
        found.append(chosen)
    return found


def scaling_options(replicas: ReplicaKeys) -> Mapping[str, Any]:
    """The copies and what each reserves, as options of a Serve deployment."""
    resources: dict[str, float] = {"num_cpus": replicas.cpus, "num_gpus": replicas.gpus}
    if replicas.memory_gb is not None:
        resources["memory"] = int(replicas.memory_gb * 1e9)
    if replicas.most is None:
        return {"ray_actor_options": resources, "num_replicas": replicas.count}
    scaling = {
        "min_replicas": replicas.count,
        "max_replicas": replicas.most,
        "target_ongoing_requests": replicas.target,
    }
    return {"ray_actor_options": resources, "autoscaling_config": scaling}
