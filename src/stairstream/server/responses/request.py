"""Reads the body of a response's request as a `RunRequest`, with the parts that its answer repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from stairstream.core.messages import Conversation
from stairstream.core.options import RequestOptions
from stairstream.core.session import Setting
from stairstream.server.access.gate import Caller
from stairstream.server.errors import bad
from stairstream.server.history.archive import Archive
from stairstream.server.http.bodies import Fields, Shape, refuse_fields
from stairstream.server.responses import wire
from stairstream.server.responses.earlier import read_earlier, resolve_references
from stairstream.server.responses.items import read_input
from stairstream.server.runs.as_chat import as_chat_choice, as_chat_format, as_chat_tool
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.request import RunRequest, make_request
from stairstream.server.wire.formats import JsonObjectFormat

_OF_OUTPUT = (
    "input[].status",
    "input[].summary",
    "input[].content[].annotations",
    "input[].content[].logprobs",
)
"""Fields of an answer's items that are ignored in input, so that output can be sent back as it is."""
_REQUEST = Shape(wire.ResponsesRequest, passed=("stairstream", "metadata", *_OF_OUTPUT))
_encode = msgspec.json.Encoder().encode
_REFUSED: Mapping[str, str] = {
    "conversation": "this server keeps no conversations; send the whole conversation as input",
    "prompt": "this server keeps no prompts; send the text as instructions and input",
}
"""Fields that refer to state which this server does not keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """A request that has been read: the run's request, and the fields that the answer repeats."""

    run: RunRequest
    repeated: wire.RepeatedFields

    @property
    def is_background(self) -> bool:
        """Whether it continues without its client, who can come back to it on any process."""
        return self.repeated.background


async def read_response(body: bytes, catalog: Catalog, caller: Caller, archive: Archive | None) -> ResponseRequest:
    """Read the body. Raises ApiError, which names the parameter."""
    request, fields = _REQUEST.decode(body)
    ignored = _REQUEST.list_unknown(fields)
    refuse_fields(fields, _REFUSED)
    _refuse(request)
    earlier = await read_earlier(request.previous_response_id, caller, archive)
    request = await resolve_references(request, caller, archive)
    run = make_request(
        catalog,
        model=request.model,
        conversation=_read_conversation(request, catalog, earlier),
        options=_read_request_options(request),
        given=request.stairstream,
        fields=fields,
        must_call=request.tool_choice not in (None, "none", "auto"),
        is_stream=bool(request.stream),
        ignored=ignored,
        setting_names=_SETTING_NAMES,
    )
    if request.background:
        _check_background(request, run)
    repeated = _repeat(request, fields, run)
    num_passing = 1 if request.instructions else 0
    return ResponseRequest(
        run=replace(run, num_passing=num_passing, repeated=_encode(repeated)),
        repeated=repeated,
    )


def _repeat(request: wire.ResponsesRequest, fields: Fields, run: RunRequest) -> wire.RepeatedFields:
    """The fields that the answer repeats, with the values that count."""
    sampling = run.pipeline.graph.agent(run.pipeline.graph.answer).sampling
    raw = {name: fields[name] for name in ("text", "tool_choice", "tools") if name in fields}
    return wire.RepeatedFields(
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        temperature=sampling.temperature if request.temperature is None else request.temperature,
        top_p=sampling.top_p if request.top_p is None else request.top_p,
        user=request.user,
        previous_response_id=request.previous_response_id,
        background=bool(request.background),
        **raw,
    )


def _refuse(request: wire.ResponsesRequest) -> None:
    """Raise ApiError for a parameter that is not supported and must not be ignored: it would change the answer."""
    if request.top_logprobs:
        raise bad("top_logprobs", "an answer of several models has no log probabilities", "unsupported_parameter")


def _check_background(request: wire.ResponsesRequest, run: RunRequest) -> None:
    """Checks that a response can continue without its client, and be found again."""
    if not run.pipeline.settings.limits.durable:
        name = run.pipeline.settings.name
        problem = f"the pipeline {name!r} is not durable, so its answers need a client that waits; set durable: true"
        raise bad("background", problem, "unsupported_parameter")
    if request.store is False:
        raise bad("store", "a response in the background is kept until its client comes back: leave out store: false")


def _read_conversation(request: wire.ResponsesRequest, catalog: Catalog, earlier: Conversation) -> Conversation:
    most = catalog.limits.messages
    num_items = len(earlier) + (1 if isinstance(request.input, str) else len(request.input))
    if num_items > most:
        raise bad("input", f"{num_items} items are more than this server takes ({most})")
    return read_input(request.input, request.instructions, earlier)


def _read_request_options(request: wire.ResponsesRequest) -> RequestOptions:
    tools = [
        as_chat_tool(tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
        for tool in request.tools or ()
    ]
    return RequestOptions(
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        response_format=_read_format(request),
        tools=_encode(tools) if tools else None,
        tool_choice=_read_tool_choice(request) if tools else None,
        parallel_tool_calls=request.parallel_tool_calls if tools else None,
        user=request.safety_identifier or request.user,
        settings=_read_settings(request),
    )


_SETTING_NAMES = {"reasoning_effort": "reasoning.effort", "verbosity": "text.verbosity"}


def _read_settings(request: wire.ResponsesRequest) -> tuple[tuple[Setting, bytes], ...]:
    given: dict[Setting, str | None] = {
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "verbosity": request.text.verbosity if request.text else None,
        "service_tier": request.service_tier,
    }
    return tuple((name, _encode(value)) for name, value in given.items() if value is not None)


def _read_tool_choice(request: wire.ResponsesRequest) -> bytes | None:
    match request.tool_choice:
        case None:
            return None
        case wire.ResponseNamedTool(name=name):
            return as_chat_choice(name)
        case word:
            return _encode(word)


def _read_format(request: wire.ResponsesRequest) -> bytes | None:
    match request.text and request.text.format:
        case JsonObjectFormat():
            return b'{"type":"json_object"}'
        case wire.ResponseSchemaFormat() as given:
            return as_chat_format(given.name, given.schema, description=given.description, strict=given.strict)
        case _:
            return None
