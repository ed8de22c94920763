"""POST /v1/completions, and where embeddings belong."""

from functools import partial

from starlette.routing import Route

from stairstream.server.access.gate import Caller
from stairstream.server.completions.answer import make_completion
from stairstream.server.completions.request import read_completion
from stairstream.server.completions.stream import CompletionStream
from stairstream.server.completions.wire import Completion, CompletionChunk, CompletionRequest
from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import Exchange
from stairstream.server.http.operations import Operation
from stairstream.server.http.routes import route
from stairstream.server.runs.answering import RUN_ERRORS, RUN_PARAMETERS, Reply, Service, answer_by_run
from stairstream.server.runs.catalog import Catalog
from stairstream.server.wire.listings import ErrorBody

_COMPLETE = Operation(
    id="complete",
    summary="An answer in the older protocol, streamed or whole: the prompt is a message of the user.",
    takes=CompletionRequest,
    gives=Completion,
    streams=(CompletionChunk, ErrorBody),
    parameters=RUN_PARAMETERS,
    errors=RUN_ERRORS,
    has_run=True,
)


def make_completion_routes(service: Service) -> list[Route]:
    """The route of completions, and one that tells clients where embeddings belong."""
    return [
        route("POST", "/v1/completions", answer_by_run(service, read_reply, "completions"), _COMPLETE),
        route("POST", "/v1/embeddings", refuse_embeddings),
    ]


async def read_reply(body: bytes, catalog: Catalog, caller: Caller) -> Reply:
    """Chunks, or a completion."""
    request = read_completion(body, catalog)
    return Reply(request=request, stream=partial(CompletionStream, request), whole=partial(make_completion, request))


async def refuse_embeddings(exchange: Exchange) -> None:
    """Answer 404, with the way out."""
    message = (
        "pipelines answer, and make no embeddings: give the client an embedding model of its own or another endpoint "
        "for them (Open WebUI: Settings, Documents; LlamaIndex: Settings.embed_model; LangChain: its own embeddings)"
    )
    raise ApiError(status=404, message=message, code="not_found")
