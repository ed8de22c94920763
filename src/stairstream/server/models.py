"""GET /v1/models: to a client every pipeline is a model."""

from collections.abc import Iterator
from typing import get_args

from starlette.routing import Route

from stairstream.api import Pipeline
from stairstream.config.topologies import TOPOLOGIES
from stairstream.core.session import Setting, Takes
from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import Exchange, Handler
from stairstream.server.http.operations import Operation, in_path
from stairstream.server.http.routes import route
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.choosing import choose_pipeline
from stairstream.server.wire.listings import ModelAgent, ModelDetails, ModelList, ModelOut, ServerOut
from stairstream.server.wire.options import StairstreamOptions

_LIST_MODELS = Operation(id="listModels", summary="Every pipeline, as a model.", gives=ModelList)
_SHOW_MODEL = Operation(
    id="showModel",
    summary="One pipeline, as a model.",
    gives=ModelOut,
    parameters=(in_path("model", "The pipeline's name, or `pipeline:policy`."),),
    errors=(404,),
)


def make_model_routes(service: Service, *, has_history: bool) -> list[Route]:
    """The routes of models."""
    return [
        route("GET", "/v1/models", list_models(service, has_history=has_history), _LIST_MODELS),
        route("GET", "/v1/models/{model:path}", show_model(service), _SHOW_MODEL),
    ]


def list_models(service: Service, *, has_history: bool) -> Handler:
    """Returns the handler that lists all models."""
    since = int(service.wall_clock())

    async def answer(exchange: Exchange) -> None:
        await service.gate.identify(exchange.headers)
        data = [_describe(name, pipeline, since) for name, pipeline in _list_pipelines(service.catalog)]
        has = ServerOut(history=has_history)
        await exchange.answer_json(ModelList(object="list", data=data, stairstream=has))

    return answer


def _list_pipelines(catalog: Catalog) -> Iterator[tuple[str, Pipeline]]:
    """The pipelines by the names that are listed, each with those policies that the configuration lists."""
    for name, pipeline in catalog.pipelines.items():
        yield name, pipeline
        if pipeline.graph.agent(pipeline.graph.answer).reads:
            for policy in catalog.config.server.list_policies:
                chosen = f"{name}:{policy}"
                yield chosen, choose_pipeline(chosen, StairstreamOptions(), catalog)


def show_model(service: Service) -> Handler:
    """Returns the handler that shows one model, by any name a request may use, also `pipeline:policy`."""
    since = int(service.wall_clock())

    async def answer(exchange: Exchange) -> None:
        await service.gate.identify(exchange.headers)
        name = exchange.path_params["model"]
        try:
            pipeline = choose_pipeline(name, StairstreamOptions(), service.catalog)
        except ApiError as exc:
            raise ApiError(status=404, message=exc.message, param="model", code="model_not_found") from None
        await exchange.answer_json(_describe(name, pipeline, since))

    return answer


def _describe(name: str, pipeline: Pipeline, since: int) -> ModelOut:
    graph, settings = pipeline.graph, pipeline.settings
    answering = graph.agent(graph.answer)
    takes = pipeline.backends[answering.model].takes
    details = ModelDetails(
        topology=next((name for name, keys in TOPOLOGIES.items() if isinstance(settings.keys, keys)), "graph"),
        policy=settings.policy_name if answering.reads else "none",
        answer=graph.answer,
        agents=[ModelAgent(name=agent.name, model=agent.model, reads=list(agent.reads)) for agent in graph.agents],
        max_tokens=answering.sampling.max_tokens,
        takes=[one for one in get_args(Takes) if one in takes],
        settings=[one for one in get_args(Setting) if one in takes],
    )
    return ModelOut(id=name, object="model", created=since, owned_by="stairstream", stairstream=details)
