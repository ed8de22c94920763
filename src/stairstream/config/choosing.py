"""A pipeline as the caller names it, perhaps with another policy than its own."""

from collections.abc import Sequence
from types import NoneType

from stairstream.config.arguments import check_type
from stairstream.config.graphs import build_graph
from stairstream.config.pipelines import PipelineConfig, change_policy, ready_pipeline
from stairstream.config.policies import ARGUMENTS, PolicyPaths, read_settings
from stairstream.config.reading import Where
from stairstream.config.schema import Config
from stairstream.config.topologies import check_topology
from stairstream.core.graph import Graph
from stairstream.core.policy import Policy


def find_pipeline(config: Config, pipeline: str | Graph | PipelineConfig | None) -> PipelineConfig:
    """The pipeline of that name, or one made of that graph. Raises ConfigError for unknown names."""
    if isinstance(pipeline, PipelineConfig):
        return pipeline
    check_type("pipeline", pipeline, (str, Graph, NoneType), "the name of a pipeline, or a graph")
    if not isinstance(pipeline, Graph):
        return config.pipeline(pipeline)
    ready = ready_pipeline(pipeline)
    check_topology(ready.keys, config.models, Where(file=config.file, path="graph"))
    return ready


def choose_policy(
    config: Config,
    pipeline: PipelineConfig,
    policy: Policy | str | None,
    settings: Sequence[str],
    paths: PolicyPaths = ARGUMENTS,
) -> PipelineConfig:
    """The pipeline with another policy, or with some of its numbers changed. `paths` name both in errors."""
    check_type("policy", policy, (Policy, str, NoneType), "the name of a preset, or a Policy")
    check_type("settings", settings, (list, tuple), "a list of texts such as 'first_chunk=16'")
    numbers = read_settings(settings, paths.numbers)
    if policy is None and not numbers:
        return pipeline
    return change_policy(pipeline, policy, numbers, most_read(build_graph(config.models, pipeline)), paths)


def most_read(graph: Graph) -> int:
    """The number of agents that the one that reads most reads."""
    return max(len(agent.reads) for agent in graph.agents)
