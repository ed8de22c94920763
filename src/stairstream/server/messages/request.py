"""Reads the body of a message's request as a `RunRequest`."""

from collections.abc import Mapping

import msgspec

from stairstream.core.messages import Conversation
from stairstream.core.options import RequestOptions
from stairstream.core.session import Setting
from stairstream.server.errors import bad
from stairstream.server.http.bodies import Fields, Shape, refuse_fields
from stairstream.server.messages import wire
from stairstream.server.messages.errors import NO_THREADS
from stairstream.server.messages.tools import as_chat_tools
from stairstream.server.messages.turns import read_turns
from stairstream.server.runs.as_chat import as_chat_choice, as_chat_format
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.request import RunRequest, make_request

_REQUEST = Shape(wire.MessagesRequest, passed=("stairstream",))
_encode = msgspec.json.Encoder().encode
_REFUSED: Mapping[str, str] = {
    "container": "nothing is executed here; leave it out",
    "mcp_servers": "this server calls no other servers; give their tools as tools, and call them yourself",
}


def read_message(body: bytes, catalog: Catalog) -> RunRequest:
    """Read the body. Raises ApiError, which names the parameter."""
    request, fields = _REQUEST.decode(body)
    ignored = _REQUEST.list_unknown(fields)
    refuse_what_is_not_kept(fields)
    return make_request(
        catalog,
        model=request.model,
        conversation=read_conversation(request, catalog),
        options=_read_request_options(request),
        given=request.stairstream,
        fields=fields,
        must_call=isinstance(request.tool_choice, wire.ToolChoiceAny | wire.ToolChoiceTool),
        is_stream=bool(request.stream),
        show="thinking" if _wants_thoughts(request.thinking) else "none",
        ignored=(*ignored, *_list_ignored(request)),
        setting_names=_SETTING_NAMES,
    )


def refuse_what_is_not_kept(fields: Fields) -> None:
    """Raise ApiError for fields that refer to state which this server does not keep, or to other servers."""
    if "thread" in fields:
        raise bad("thread", "this server keeps no threads; send the whole conversation without it", NO_THREADS)
    refuse_fields({name: raw for name, raw in fields.items() if raw not in _EMPTY}, _REFUSED)


_EMPTY = (msgspec.Raw(b"[]"), msgspec.Raw(b"{}"))


def read_conversation(question: wire.MessagesQuestion, catalog: Catalog) -> Conversation:
    """The conversation of a request; ApiError for one that is longer than this server takes."""
    most = catalog.limits.messages
    if len(question.messages) > most:
        raise bad("messages", f"{len(question.messages)} of them are more than this server takes ({most})")
    return read_turns(question.messages, question.system)


def make_tools(question: wire.MessagesQuestion) -> bytes | None:
    """The tools as chat completions have them."""
    return _encode(as_chat_tools(question.tools)) if question.tools else None


def _wants_thoughts(thinking: wire.ThinkingConfig | None) -> bool:
    """Whether the client wants thoughts: it is then shown a proposal."""
    return thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"


def _list_ignored(request: wire.MessagesRequest) -> list[str]:
    given = {
        "thinking.budget_tokens": request.thinking and request.thinking.budget_tokens,
    }
    return [name for name, value in given.items() if value is not None]


def _read_request_options(request: wire.MessagesRequest) -> RequestOptions:
    choice, is_parallel = _read_tool_choice(request) if request.tools else (None, None)
    return RequestOptions(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=tuple(request.stop_sequences or ()),
        response_format=_read_format(request),
        tools=make_tools(request),
        tool_choice=choice,
        parallel_tool_calls=is_parallel,
        user=request.metadata.user_id if request.metadata else None,
        settings=_read_settings(request),
    )


_SETTING_NAMES = {"reasoning_effort": "output_config.effort"}


def _read_settings(request: wire.MessagesRequest) -> tuple[tuple[Setting, bytes], ...]:
    given: dict[Setting, object] = {
        "top_k": request.top_k,
        "reasoning_effort": request.output_config.effort if request.output_config else None,
    }
    return tuple((name, _encode(value)) for name, value in given.items() if value is not None)


def _read_tool_choice(request: wire.MessagesRequest) -> tuple[bytes | None, bool | None]:
    """The choice as chat completions have it, and whether there may be several calls."""
    match request.tool_choice:
        case None:
            return None, None
        case wire.ToolChoiceNone():
            return b'"none"', None
        case wire.ToolChoiceAuto(disable_parallel_tool_use=is_single):
            return b'"auto"', False if is_single else None
        case wire.ToolChoiceAny(disable_parallel_tool_use=is_single):
            return b'"required"', False if is_single else None
        case wire.ToolChoiceTool(name=name, disable_parallel_tool_use=is_single):
            return as_chat_choice(name), False if is_single else None


def _read_format(request: wire.MessagesRequest) -> bytes | None:
    given = request.output_config.format if request.output_config else None
    return None if given is None else as_chat_format("answer", given.schema, strict=True)
