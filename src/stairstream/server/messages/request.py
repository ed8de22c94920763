"""Reads the body of a message's request as a `RunRequest`."""

from collections.abc import Mapping

import msgspec

from stairstream.core.messages import Conversation
from stairstream.core.options import RequestOptions
from stairstream.server.errors import bad
from stairstream.server.http.bodies import Shape, refuse_fields
from stairstream.server.messages import wire
from stairstream.server.messages.turns import read_turns
from stairstream.server.runs.as_chat import as_chat_choice, as_chat_format, as_chat_tool
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
    refuse_fields(fields, _REFUSED)
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
    )


def read_conversation(question: wire.MessagesQuestion, catalog: Catalog) -> Conversation:
    """The conversation of a request; ApiError for one that is longer than this server takes."""
    most = catalog.limits.messages
    if len(question.messages) > most:
        raise bad("messages", f"{len(question.messages)} of them are more than this server takes ({most})")
    return read_turns(question.messages, question.system)


def make_tools(question: wire.MessagesQuestion) -> bytes | None:
    """The tools as chat completions have them."""
    if not question.tools:
        return None
    tools = [
        as_chat_tool(tool.name, parameters=tool.input_schema, description=tool.description, strict=tool.strict)
        for tool in question.tools
    ]
    return _encode(tools)


def _wants_thoughts(thinking: wire.ThinkingConfig | None) -> bool:
    """Whether the client wants thoughts: it is then shown a proposal."""
    return thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"


def _list_ignored(request: wire.MessagesRequest) -> list[str]:
    given = {
        "thinking.budget_tokens": request.thinking and request.thinking.budget_tokens,
        "output_config.effort": request.output_config and request.output_config.effort,
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
    )


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
