"""The route of responses."""

from dataclasses import dataclass

from starlette.routing import Route

from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller
from stairstream.server.asking.asking import Asking
from stairstream.server.http.routes import route
from stairstream.server.http.sse_out import COMMENT
from stairstream.server.responses.answer import make_response
from stairstream.server.responses.request import ResponseAsked, read_response
from stairstream.server.responses.stream import ResponseStream
from stairstream.server.responses.wire import ResponseOut
from stairstream.server.runs.answering import answer_by_run
from stairstream.server.service import Service


def make_response_routes(service: Service) -> list[Route]:
    """POST /v1/responses."""
    return [route("POST", "/v1/responses", answer_by_run(service, read_reply))]


async def read_reply(body: bytes, service: Service, caller: Caller) -> "ResponseReply":
    """The body, as what `answering` wants of it."""
    return ResponseReply(asked=await read_response(body, service, caller))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseReply:
    """A response and its events."""

    asked: ResponseAsked
    keep_alive: bytes = COMMENT

    @property
    def asking(self) -> Asking:
        """As in Reply."""
        return self.asked.asking

    def stream(self, run: Run, created: int) -> ResponseStream:
        """As in Reply."""
        return ResponseStream(self.asked, run, created)

    def whole(self, run: Run, created: int) -> ResponseOut:
        """As in Reply."""
        return make_response(self.asked, run, created)
