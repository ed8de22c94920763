"""Reads the body of a chat completion as a `RunRequest`."""

from collections.abc import Mapping

from stairstream.conversations.turns import read_turns
from stairstream.core.messages import Conversation
from stairstream.core.options import RequestOptions
from stairstream.server.chat.wire import ChatRequest
from stairstream.server.errors import bad
from stairstream.server.http.bodies import Fields, Shape, refuse_fields
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.request import RunRequest, make_request
from stairstream.server.runs.settings import read_settings
from stairstream.server.wire.formats import TextFormat

_CHAT = Shape(ChatRequest, passed=("stairstream", "tools", "tool_choice", "response_format"))
_REFUSED: Mapping[str, str] = {
    "functions": "is not supported; use tools",
    "function_call": "is not supported; use tools",
}


def read_chat(body: bytes, catalog: Catalog) -> RunRequest:
    """Read the body of a chat completion. Raises ApiError, which names the parameter."""
    request, fields = _CHAT.decode(body)
    ignored = _CHAT.list_unknown(fields)
    refuse_fields(fields, _REFUSED)
    _refuse(request)
    notes: list[str] = []
    return make_request(
        catalog,
        model=request.model,
        options=_read_request_options(request, fields, notes),
        conversation=_read_conversation(request, catalog),
        given=request.stairstream,
        fields=fields,
        plugins=request.plugins or (),
        must_call=request.tool_choice not in (None, "none", "auto"),
        is_stream=bool(request.stream),
        wants_usage=bool(request.stream_options and request.stream_options.include_usage),
        shows_events=True,
        ignored=ignored,
        notes=notes,
    )


def _refuse(request: ChatRequest) -> None:
    """Raise ApiError for a parameter that is not supported and must not be ignored: it would change the answer."""
    if request.n is not None and request.n > 1:
        raise bad("n", "only one answer is given; send another request for another", "unsupported_parameter")
    if request.logprobs:
        raise bad("logprobs", "an answer of several models has no log probabilities", "unsupported_parameter")
    if request.top_logprobs is not None:
        raise bad("top_logprobs", "an answer of several models has no log probabilities", "unsupported_parameter")


def _read_request_options(request: ChatRequest, fields: Fields, notes: list[str]) -> RequestOptions:
    """Read the options for the answering agent; changes to them are added to `notes`."""
    most, old = request.max_completion_tokens, request.max_tokens
    if most is not None and old is not None and most != old:
        notes.append(f"max_completion_tokens ({most}) counts, not max_tokens ({old})")
    seed = request.seed
    if seed is not None and seed < 0:
        notes.append("a seed below 0 counts as none")
        seed = None
    has_format = request.response_format is not None and not isinstance(request.response_format, TextFormat)
    return RequestOptions(
        max_tokens=old if most is None else most,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=seed,
        stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
        response_format=bytes(fields["response_format"]) if has_format else None,
        tools=bytes(fields["tools"]) if request.tools else None,
        tool_choice=bytes(fields["tool_choice"]) if request.tools and request.tool_choice else None,
        parallel_tool_calls=request.parallel_tool_calls if request.tools else None,
        user=request.user,
        settings=read_settings(fields),
    )


def _read_conversation(request: ChatRequest, catalog: Catalog) -> Conversation:
    most = catalog.limits.messages
    if len(request.messages) > most:
        raise bad("messages", f"{len(request.messages)} of them are more than this server takes ({most})")
    return read_turns(request.messages)
