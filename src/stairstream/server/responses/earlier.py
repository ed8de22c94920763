"""`previous_response_id`: the conversation up to and with an earlier answer, from the history of the same key."""

from dataclasses import replace

import msgspec

from stairstream.core.messages import Conversation, Message, ToolCall
from stairstream.server.access.gate import Caller
from stairstream.server.errors import ApiError, bad
from stairstream.server.history.archive import Archive
from stairstream.server.storage.values import PastRun
from stairstream.server.wire.conversation import ChatMessage
from stairstream.server.wire.turns import read_turns

_NAME = "previous_response_id"
_decode_turns = msgspec.json.Decoder(list[ChatMessage]).decode
_decode_calls = msgspec.json.Decoder(list[ToolCall]).decode


async def read_earlier(response_id: str | None, caller: Caller, archive: Archive | None) -> Conversation:
    """All turns of an earlier response, its answer the last; none without an id. ApiError if it is not there."""
    if response_id is None:
        return ()
    if archive is None:
        problem = "this server keeps no history, so it does not know earlier responses; send the whole conversation"
        raise bad(_NAME, problem, "unsupported_parameter")
    past = await archive.find(caller.key_id, response_id.removeprefix("resp_"))
    if past is None:
        message = f"{_NAME}: there is no response {response_id[:80]!r}, or not any more; send the whole conversation"
        raise ApiError(status=400, message=message, param=_NAME, code="previous_response_not_found")
    return read_past(past)


def read_past(past: PastRun) -> Conversation:
    """The conversation and answer of a past run, without messages that were for that run alone."""
    turns = read_turns(_decode_turns(past.conversation))[past.num_passing :]
    answer = Message(role="assistant", content=past.answer, tool_calls=tuple(_decode_calls(past.tool_calls)))
    if not (answer.content or answer.tool_calls):
        return turns
    if turns and turns[-1].role == "assistant" and not turns[-1].tool_calls:  # the answer continued this text
        return (*turns[:-1], replace(answer, content=turns[-1].content + answer.content))
    return (*turns, answer)
