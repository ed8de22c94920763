"""GET /v1/models: to a client every pipeline is a model."""

from stairstream.api import Pipeline
from stairstream.config.reading import nearest
from stairstream.config.topologies import TOPOLOGIES
from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import Exchange, Handler
from stairstream.server.service import Service
from stairstream.server.wire.listings import ModelAgent, ModelDetails, ModelList, ModelOut, ServerOut


def list_models(service: Service) -> Handler:
    """The handler for all of them."""
    since = int(service.wall_clock())

    async def answer(exchange: Exchange) -> None:
        service.gate.identify(exchange.headers)
        data = [_describe(name, pipeline, since) for name, pipeline in service.pipelines.items()]
        has = ServerOut(history=service.archive is not None)
        await exchange.answer_json(ModelList(object="list", data=data, stairstream=has))

    return answer


def show_model(service: Service) -> Handler:
    """The handler for one of them."""
    since = int(service.wall_clock())

    async def answer(exchange: Exchange) -> None:
        service.gate.identify(exchange.headers)
        name = exchange.path_params["model"]
        if name not in service.pipelines:
            message = f"no pipeline is called {name[:80]!r}{nearest(name, service.pipelines)}"
            raise ApiError(status=404, message=message, param="model", code="model_not_found")
        await exchange.answer_json(_describe(name, service.pipelines[name], since))

    return answer


def _describe(name: str, pipeline: Pipeline, since: int) -> ModelOut:
    graph, settings = pipeline.graph, pipeline.settings
    answering = graph.agent(graph.answer)
    details = ModelDetails(
        topology=next((name for name, keys in TOPOLOGIES.items() if isinstance(settings.keys, keys)), "graph"),
        policy=settings.policy_name if answering.reads else "none",
        answer=graph.answer,
        agents=[ModelAgent(name=agent.name, model=agent.model, reads=list(agent.reads)) for agent in graph.agents],
        max_tokens=answering.sampling.max_tokens,
        takes=sorted(pipeline.backends[answering.model].takes),
    )
    return ModelOut(id=name, object="model", created=since, owned_by="stairstream", stairstream=details)
