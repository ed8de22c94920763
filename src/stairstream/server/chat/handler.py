"""POST /v1/chat/completions."""

from functools import partial

from starlette.routing import Route

from stairstream.server.access.gate import Caller
from stairstream.server.chat.answer import make_completion
from stairstream.server.chat.request import read_chat
from stairstream.server.chat.stream import ChunkStream
from stairstream.server.chat.wire import ChatCompletion, ChatCompletionChunk, ChatRequest, EventChunk
from stairstream.server.http.operations import Operation
from stairstream.server.http.routes import route
from stairstream.server.runs.answering import RUN_ERRORS, RUN_PARAMETERS, Reply, Service, answer_by_run
from stairstream.server.runs.catalog import Catalog
from stairstream.server.wire.listings import ErrorBody

_COMPLETE_CHAT = Operation(
    id="completeChat",
    summary="An answer, streamed or whole. The status waits for the first token, or for the failure.",
    takes=ChatRequest,
    gives=ChatCompletion,
    streams=(ChatCompletionChunk, EventChunk, ErrorBody),
    parameters=RUN_PARAMETERS,
    errors=RUN_ERRORS,
    has_run=True,
)


def make_chat_routes(service: Service) -> list[Route]:
    """The route of chat completions."""
    return [route("POST", "/v1/chat/completions", answer_by_run(service, read_reply, "chat"), _COMPLETE_CHAT)]


async def read_reply(body: bytes, catalog: Catalog, caller: Caller) -> Reply:
    """Chunks, or a chat completion."""
    request = read_chat(body, catalog)
    return Reply(request=request, stream=partial(ChunkStream, request), whole=partial(make_completion, request))
