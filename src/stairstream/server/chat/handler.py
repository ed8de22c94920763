"""POST /v1/chat/completions: the protocol that all else here is named after."""

from functools import partial

from starlette.routing import Route

from stairstream.server.access.gate import Caller
from stairstream.server.chat.answer import make_completion
from stairstream.server.chat.request import read_chat
from stairstream.server.chat.stream import ChunkStream
from stairstream.server.http.routes import route
from stairstream.server.runs.answering import Reply, Service, answer_by_run
from stairstream.server.runs.catalog import Catalog


def make_chat_routes(service: Service) -> list[Route]:
    """The route of chat completions."""
    return [route("POST", "/v1/chat/completions", answer_by_run(service, read_reply))]


async def read_reply(body: bytes, catalog: Catalog, caller: Caller) -> Reply:
    """Chunks, or a chat completion."""
    request = read_chat(body, catalog)
    return Reply(request=request, stream=partial(ChunkStream, request), whole=partial(make_completion, request))
