"""A mixture that a request describes itself, in the shape of OpenRouter's fusion."""

from stairstream.api import Pipeline
from stairstream.config.graphs import build_graph
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.reading import nearest
from stairstream.config.topologies import MixtureKeys
from stairstream.server.errors import ApiError
from stairstream.server.service import Service
from stairstream.server.wire.options import Plugin

FUSION = "fusion"


def fuse(plugin: Plugin, model: str, service: Service) -> Pipeline:
    """A mixture of the models that the plugin names; `model` is the request's own. Only models that are open here.

    Without `model` in the plugin the request's own answers; without `analysis_models` nobody knows what is wanted.
    """
    if not plugin.analysis_models:
        raise _bad("analysis_models", "is missing; name models of this server's configuration", service)
    for number, name in enumerate(plugin.analysis_models):
        _check(name, f"analysis_models[{number}]", service)
    answering = plugin.model or model
    if plugin.model is None and answering not in service.backends:
        raise _bad("model", "is missing, and the request's own model is none of this server's", service)
    _check(answering, "model", service)
    keys = MixtureKeys(proposers=tuple(plugin.analysis_models), aggregator=answering)
    settings = PipelineConfig(name=FUSION, keys=keys)
    graph = build_graph(service.config.models, settings)
    return Pipeline(settings, graph, service.backends, service.config)


def _check(name: str, where: str, service: Service) -> None:
    if name not in service.backends:
        raise _bad(where, f"{name[:80]!r} is not a model of this server", service, name)


def _bad(where: str, problem: str, service: Service, name: str = "") -> ApiError:
    param = f"plugins.{FUSION}.{where}"
    return ApiError(status=400, message=f"{param}: {problem}{nearest(name, service.backends)}", param=param)
