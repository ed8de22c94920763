"""Earlier answers from the history of the same key: `previous_response_id`, and references to their items."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec
from msgspec import structs

from stairstream.core.messages import Conversation, Message, ToolCall
from stairstream.server.access.gate import Caller
from stairstream.server.errors import ApiError, bad
from stairstream.server.history.archive import Archive
from stairstream.server.responses import wire
from stairstream.server.responses.past import list_output, read_conversation
from stairstream.server.storage.values import PastRun

_NAME = "previous_response_id"
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


async def resolve_references(
    request: wire.ResponsesRequest, caller: Caller, archive: Archive | None
) -> wire.ResponsesRequest:
    """The request with each reference replaced by the item that it names; ApiError for one that is not there."""
    if isinstance(request.input, str) or not any(map(_is_reference, request.input)):
        return request
    found: dict[str, Mapping[str, wire.InputItem]] = {}
    items = []
    for number, item in enumerate(request.input):
        if _is_reference(item):
            where = f"input[{number}].id"
            if archive is None:
                raise bad(where, _NO_ITEMS, "unsupported_parameter")
            items.append(await _find_item(item.id or "", where, caller, archive, found))
        else:
            items.append(item)
    return structs.replace(request, input=items)


_NO_ITEMS = (
    "this server keeps no history, so it can't look an item up; send the item itself (in the AI SDK: the provider "
    "option `store: false`, or `openai.chat(...)`), or set `history: true` in the section `server` of its configuration"
)


def _is_reference(item: wire.InputItem) -> bool:
    """Whether an item is only named; its type may be left out."""
    return item.type == "item_reference" or (item.type == "message" and item.role is None and item.id is not None)


async def _find_item(
    item_id: str, where: str, caller: Caller, archive: Archive, found: dict[str, Mapping[str, wire.InputItem]]
) -> wire.InputItem:
    """The item of an earlier response; `found` has those of responses that were read before."""
    kind, _, rest = item_id.partition("_")
    if kind == "rs":  # reasoning is not shown to models
        return wire.InputItem(type="reasoning", id=item_id)
    run_id = rest.partition("_")[0]
    if run_id not in found:
        past = await archive.find(caller.key_id, run_id)
        found[run_id] = {item.id: _as_input(item) for item in list_output(past)} if past else {}
    if item_id not in found[run_id]:
        problem = f"there is no item {item_id[:80]!r}, or not any more; send the item itself"
        raise ApiError(status=400, message=f"{where}: {problem}", param=where, code="item_not_found")
    return found[run_id][item_id]


def _as_input(item: wire.OutputItem) -> wire.InputItem:
    match item:
        case wire.OutputMessage(id=item_id, content=content):
            return wire.InputItem(id=item_id, role="assistant", content="".join(part.text for part in content))
        case wire.OutputCall(id=item_id, call_id=call_id, name=name, arguments=arguments):
            return wire.InputItem(type="function_call", id=item_id, call_id=call_id, name=name, arguments=arguments)
        case wire.OutputReasoning(id=item_id):
            return wire.InputItem(type="reasoning", id=item_id)


def read_past(past: PastRun) -> Conversation:
    """The conversation and answer of a past run, without messages that were for that run alone."""
    turns = read_conversation(past)
    answer = Message(role="assistant", content=past.answer, tool_calls=tuple(_decode_calls(past.tool_calls)))
    if not (answer.content or answer.tool_calls):
        return turns
    if turns and turns[-1].role == "assistant" and not turns[-1].tool_calls:  # the answer continued this text
        return (*turns[:-1], replace(answer, content=turns[-1].content + answer.content))
    return (*turns, answer)
