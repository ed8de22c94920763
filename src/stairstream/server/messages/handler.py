"""The routes of messages."""

from dataclasses import dataclass

from starlette.routing import Route

from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller
from stairstream.server.asking.asking import Asking
from stairstream.server.http.exchange import MESSAGES
from stairstream.server.http.routes import route
from stairstream.server.messages.answer import make_message
from stairstream.server.messages.count import count_message_tokens
from stairstream.server.messages.request import read_message
from stairstream.server.messages.stream import PING, MessageStream
from stairstream.server.messages.wire import MessagesAnswer
from stairstream.server.runs.answering import answer_by_run
from stairstream.server.service import Service


def make_message_routes(service: Service) -> list[Route]:
    """POST /v1/messages, and what counts beside it."""
    return [
        route("POST", MESSAGES, answer_by_run(service, read_reply)),
        route("POST", f"{MESSAGES}/count_tokens", count_message_tokens(service)),
    ]


async def read_reply(body: bytes, service: Service, caller: Caller) -> "MessageReply":
    """The body, as what `answering` wants of it."""
    return MessageReply(asking=read_message(body, service))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReply:
    """A message and its events."""

    asking: Asking
    keep_alive: bytes = PING

    def stream(self, run: Run, created: int) -> MessageStream:
        """As in Reply; a message has no date."""
        return MessageStream(self.asking, run)

    def whole(self, run: Run, created: int) -> MessagesAnswer:
        """As in Reply."""
        return make_message(self.asking, run)
