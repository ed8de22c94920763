"""A pipeline's answering model by itself: what a pipeline is to be compared with."""

from stairstream.api import Pipeline
from stairstream.config.graphs import build_graph
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.topologies import SingleKeys
from stairstream.server.service import Service

SINGLE = "single"
"""Behind a pipeline's name, where else a policy's stands: `mix:single`."""


def single_of(pipeline: Pipeline, service: Service) -> Pipeline:
    """The model that answers in a pipeline, reading nobody; within the same limits."""
    graph = pipeline.graph
    keys = SingleKeys(model=graph.agent(graph.answer).model)
    settings = PipelineConfig(name=f"{pipeline.settings.name}:{SINGLE}", keys=keys, limits=pipeline.settings.limits)
    return Pipeline(settings, build_graph(service.config.models, settings), service.backends, service.config)
