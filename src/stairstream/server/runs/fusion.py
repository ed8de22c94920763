"""Builds a mixture that a request describes, in the shape of OpenRouter's fusion."""

from stairstream.api import Pipeline
from stairstream.config.graphs import build_graph
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.reading import nearest
from stairstream.config.topologies import MixtureKeys
from stairstream.server.errors import ApiError
from stairstream.server.runs.catalog import Catalog
from stairstream.server.wire.options import Plugin

FUSION = "fusion"


def fuse(plugin: Plugin, model: str, catalog: Catalog) -> Pipeline:
    """A mixture of the models that the plugin names; `model` is the request's own. Only models that are open here.

    Without `model` in the plugin, the request's own model answers; `analysis_models` are required.
    """
    if not plugin.analysis_models:
        raise _bad("analysis_models", "is missing; name models of this server's configuration", catalog)
    for number, name in enumerate(plugin.analysis_models):
        _check(name, f"analysis_models[{number}]", catalog)
    answering = plugin.model or model
    if plugin.model is None and answering not in catalog.backends:
        raise _bad("model", "is missing, and the request's own model is not a model of this server", catalog)
    _check(answering, "model", catalog)
    keys = MixtureKeys(proposers=tuple(plugin.analysis_models), aggregator=answering)
    settings = PipelineConfig(name=FUSION, keys=keys)
    graph = build_graph(catalog.config.models, settings)
    return Pipeline(settings, graph, catalog.backends, catalog.config, catalog.rates)


def _check(name: str, where: str, catalog: Catalog) -> None:
    if name not in catalog.backends:
        raise _bad(where, f"{name[:80]!r} is not a model of this server", catalog, name)


def _bad(where: str, problem: str, catalog: Catalog, name: str = "") -> ApiError:
    param = f"plugins.{FUSION}.{where}"
    return ApiError(status=400, message=f"{param}: {problem}{nearest(name, catalog.backends)}", param=param)
