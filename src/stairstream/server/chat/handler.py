"""POST /v1/chat/completions: the protocol that all else here is named after."""

from dataclasses import dataclass

from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller
from stairstream.server.asking.asking import Asking
from stairstream.server.asking.request import read_chat
from stairstream.server.chat.answer import make_completion
from stairstream.server.chat.stream import ChunkStream
from stairstream.server.chat.wire import ChatCompletion
from stairstream.server.http.exchange import Handler
from stairstream.server.http.sse_out import COMMENT
from stairstream.server.runs.answering import answer_by_run
from stairstream.server.service import Service


def complete_chats(service: Service) -> Handler:
    """The handler."""
    return answer_by_run(service, read_reply)


async def read_reply(body: bytes, service: Service, caller: Caller) -> "ChatReply":
    """The body, as what `answering` wants of it."""
    return ChatReply(asking=read_chat(body, service))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """Chunks, or a chat completion."""

    asking: Asking
    keep_alive: bytes = COMMENT

    def stream(self, run: Run, created: int) -> ChunkStream:
        """As in Reply."""
        return ChunkStream(self.asking, run, created)

    def whole(self, run: Run, created: int) -> ChatCompletion:
        """As in Reply."""
        return make_completion(self.asking, run, created)
