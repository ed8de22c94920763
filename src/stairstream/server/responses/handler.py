"""The route of responses."""

from functools import partial

from starlette.routing import Route

from stairstream.server.access.gate import Caller
from stairstream.server.history.archive import Archive
from stairstream.server.http.operations import Operation
from stairstream.server.http.routes import route
from stairstream.server.responses import wire
from stairstream.server.responses.answer import begin_response, make_response
from stairstream.server.responses.kept import PROTOCOL
from stairstream.server.responses.past_handlers import make_past_response_routes
from stairstream.server.responses.request import read_response
from stairstream.server.responses.stream import ResponseStream
from stairstream.server.runs.answering import RUN_ERRORS, RUN_PARAMETERS, Reply, Service, answer_by_run
from stairstream.server.runs.catalog import Catalog

_CREATE_RESPONSE = Operation(
    id="createResponse",
    summary="An answer in the shape of OpenAI's Responses: streamed, whole, or in the background.",
    takes=wire.ResponsesRequest,
    gives=wire.ResponseOut,
    streams=(wire.ResponseEvent,),
    parameters=RUN_PARAMETERS,
    errors=RUN_ERRORS,
    has_run=True,
)


def make_response_routes(service: Service, archive: Archive | None) -> list[Route]:
    """The routes of responses; `archive` has earlier ones, None where no history is kept."""

    async def read_reply(body: bytes, catalog: Catalog, caller: Caller) -> Reply:
        request = await read_response(body, catalog, caller, archive)
        return Reply(
            request=request.run,
            stream=partial(ResponseStream, request),
            whole=partial(make_response, request),
            begun=partial(begin_response, request, status="queued") if request.is_background else None,
            names={"images": "input", "response_format": "text.format"},
        )

    return [
        route("POST", "/v1/responses", answer_by_run(service, read_reply, PROTOCOL), _CREATE_RESPONSE),
        *make_past_response_routes(service, archive),
    ]
