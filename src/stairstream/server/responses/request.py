"""The body of a response's request becomes what is to be run, and what its answer repeats of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from stairstream.core.asked import Asked
from stairstream.core.messages import Conversation
from stairstream.server.access.gate import Caller
from stairstream.server.errors import bad
from stairstream.server.history.archive import Archive
from stairstream.server.http.bodies import Fields, Shape
from stairstream.server.responses import wire
from stairstream.server.responses.earlier import read_earlier
from stairstream.server.responses.items import read_input
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.choosing import choose_pipeline, read_options
from stairstream.server.runs.request import RunRequest, make_request, refuse_choice
from stairstream.server.wire.formats import JsonObjectFormat

_OF_OUTPUT = (
    "input[].id",
    "input[].status",
    "input[].summary",
    "input[].content[].annotations",
    "input[].content[].logprobs",
)
"""What items of an answer have besides, which may be put into the next input as they are."""
_REQUEST = Shape(wire.ResponsesRequest, passed=("stairstream", "metadata", *_OF_OUTPUT))
_encode = msgspec.json.Encoder().encode
_NULL = b"null"
_REFUSED: Mapping[str, str] = {
    "conversation": "this server keeps no conversations; send the whole conversation as input",
    "prompt": "this server keeps no prompts; send the text as instructions and input",
}
"""What points at something that would have to be kept here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """A request that has been read: what is to be run, and the request itself, which its answer repeats."""

    run: RunRequest
    given: wire.ResponsesRequest
    tools: msgspec.Raw
    tool_choice: msgspec.Raw
    text: msgspec.Raw


async def read_response(body: bytes, catalog: Catalog, caller: Caller, archive: Archive | None) -> ResponseRequest:
    """What the body asks for. Raises ApiError, which names the parameter."""
    request, fields = _REQUEST.decode(body)
    _refuse(request, fields)
    options = read_options(request.stairstream, fields)
    if options.show == "events":
        raise bad("stairstream.show", "events are shown by POST /v1/runs, and in chat completions")
    notes: list[str] = []
    earlier = await read_earlier(request.previous_response_id, caller, archive)
    run = make_request(
        catalog,
        pipeline=choose_pipeline(request.model, options, catalog),
        model=request.model,
        conversation=_read_conversation(request, catalog, earlier),
        asked=_read_asked(request),
        options=options,
        is_stream=bool(request.stream),
        ignored=_REQUEST.list_unknown(body),
        notes=notes,
    )
    return ResponseRequest(
        run=replace(run, num_passing=1) if request.instructions else run,
        given=request,
        tools=_given(fields, "tools", b"[]"),
        tool_choice=_given(fields, "tool_choice", b'"auto"'),
        text=_given(fields, "text", b'{"format":{"type":"text"}}'),
    )


def _given(fields: Fields, name: str, default: bytes) -> msgspec.Raw:
    raw = fields.get(name)
    return msgspec.Raw(default) if raw is None or bytes(raw) == _NULL else raw


def _refuse(request: wire.ResponsesRequest, fields: Fields) -> None:
    """What can't be had here, and must not be ignored: the answer would not be what was asked for."""
    for name, problem in _REFUSED.items():
        if bytes(fields.get(name, _NULL)) != _NULL:
            raise bad(name, problem, "unsupported_parameter")
    if request.background:
        raise bad("background", "an answer is given while the client waits; see stairstream.keep_s")
    if request.top_logprobs:
        raise bad("top_logprobs", "an answer of several models has no log probabilities", "unsupported_parameter")
    refuse_choice(request.tool_choice not in (None, "none", "auto"), request.tools)


def _read_conversation(request: wire.ResponsesRequest, catalog: Catalog, earlier: Conversation) -> Conversation:
    most = catalog.limits.messages
    num_items = len(earlier) + (1 if isinstance(request.input, str) else len(request.input))
    if num_items > most:
        raise bad("input", f"{num_items} items are more than this server takes ({most})")
    return read_input(request.input, request.instructions, earlier)


def _read_asked(request: wire.ResponsesRequest) -> Asked:
    tools = [_as_chat_tool(tool) for tool in request.tools or ()]
    return Asked(
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        response_format=_read_format(request),
        tools=_encode(tools) if tools else None,
        tool_choice=_read_tool_choice(request) if tools else None,
        parallel_tool_calls=request.parallel_tool_calls if tools else None,
        user=request.safety_identifier or request.user,
    )


def _as_chat_tool(tool: wire.ResponseTool) -> dict[str, Any]:
    given = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name, **{name: value for name, value in given.items() if value is not None}}
    return {"type": "function", "function": function}


def _read_tool_choice(request: wire.ResponsesRequest) -> bytes | None:
    match request.tool_choice:
        case None:
            return None
        case wire.ResponseNamedTool(name=name):
            return _encode({"type": "function", "function": {"name": name}})
        case word:
            return _encode(word)


def _read_format(request: wire.ResponsesRequest) -> bytes | None:
    match request.text and request.text.format:
        case JsonObjectFormat():
            return b'{"type":"json_object"}'
        case wire.ResponseSchemaFormat() as given:
            parts = {"description": given.description, "strict": given.strict}
            more = {name: value for name, value in parts.items() if value is not None}
            schema = {"name": given.name, "schema": given.schema, **more}
            return _encode({"type": "json_schema", "json_schema": schema})
        case _:
            return None
