"""The OpenAPI document: made of the wire's shapes and of the routes that are really served."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from starlette.routing import Route

import stairstream
from stairstream.config.policies import NAMES
from stairstream.server.access.gate import OpenGate
from stairstream.server.chat.wire import ChatCompletion, ChatCompletionChunk, ChatRequest, EventChunk
from stairstream.server.history import wire as history
from stairstream.server.history.handlers import JSONL
from stairstream.server.history.reading import LISTED, MOST_LISTED, Format
from stairstream.server.http.exchange import JSON, Exchange, Handler
from stairstream.server.messages import wire as messages
from stairstream.server.responses import wire as responses
from stairstream.server.runs.answering import Service
from stairstream.server.wire.listings import ErrorBody, ModelList, ModelOut, RunEvent, RunOut, Status

Json = dict[str, Any]
_REF = "#/components/schemas/{name}"
_NAMELESS = "; a name that is not plain ASCII is in percent encoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What can be done at a path. `streams` are the shapes that the data of its events may have, `errors` statuses.

    `fails` is the shape of its errors. `or_gives` is what it gives in JSON besides, `files` are other types of content.
    """

    id: str
    summary: str
    gives: Any
    takes: Any = None
    or_gives: tuple[Any, ...] = ()
    files: tuple[str, ...] = ()
    streams: tuple[Any, ...] = ()
    fails: Any = ErrorBody
    parameters: tuple[Json, ...] = ()
    errors: tuple[int, ...] = ()
    has_run: bool = False
    is_open: bool = False


_ERRORS = {
    400: "The request is wrong, or a model's place rejected it; `param` names the parameter.",
    401: "The API key is missing, unknown or revoked.",
    402: "The key's budget is spent, or can't be kept for a model without a price.",
    403: "The request comes from a web page, or by a name, that this server does not know.",
    404: "There is no such model, run or path; or no history is kept.",
    413: "The body is larger than this server takes.",
    415: "The body is not said to be JSON.",
    429: "The key's limits are reached, or a model's place had too many requests; `Retry-After` says for how long.",
    502: "A model's place failed before the first token.",
    503: "All places for runs are taken, or the server is stopping.",
    504: "A deadline passed before the first token.",
}
_ANY_CALL = (401, 403)
_RUN_ERRORS = (400, 402, 404, 413, 415, 429, 502, 503, 504)
_RUN_HEADERS = {
    "x-stairstream-run": "The run's id.",
    "x-stairstream-pipeline": f"The pipeline{_NAMELESS}.",
    "x-stairstream-policy": "The policy that the answering agent reads by: a preset, `custom`, `adaptive` or `none`.",
    "x-stairstream-ignored": f"Parameters that this server does not know, with commas between them{_NAMELESS}.",
    "x-stairstream-note": "What was changed about the request.",
}


def _in_path(name: str, what: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": what,
        "schema": {"type": "string", "minLength": 1},
    }


def _in_query(name: str, what: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": what, "schema": schema}


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): Operation(
        id="completeChat",
        summary="An answer, streamed or whole. The status waits for the first token, or for the failure.",
        takes=ChatRequest,
        gives=ChatCompletion,
        streams=(ChatCompletionChunk, EventChunk, ErrorBody),
        errors=_RUN_ERRORS,
        has_run=True,
    ),
    ("POST", "/v1/responses"): Operation(
        id="createResponse",
        summary="An answer in the shape of OpenAI's Responses, streamed or whole.",
        takes=responses.ResponsesRequest,
        gives=responses.ResponseOut,
        streams=(responses.ResponseEvent,),
        errors=_RUN_ERRORS,
        has_run=True,
    ),
    ("POST", "/v1/messages"): Operation(
        id="createMessage",
        summary="An answer in the shape of Anthropic's Messages, streamed or whole.",
        takes=messages.MessagesRequest,
        gives=messages.MessagesAnswer,
        streams=(messages.MessagesEvent, messages.MessagesError),
        fails=messages.MessagesError,
        errors=_RUN_ERRORS,
        has_run=True,
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        id="countTokens",
        summary="How long a message's request is; an estimate.",
        takes=messages.MessagesQuestion,
        gives=messages.TokenCount,
        fails=messages.MessagesError,
        errors=(400, 404, 413, 415),
    ),
    ("GET", "/v1/models"): Operation(id="listModels", summary="Every pipeline, as a model.", gives=ModelList),
    ("GET", "/v1/models/{model}"): Operation(
        id="showModel",
        summary="One pipeline, as a model.",
        gives=ModelOut,
        parameters=(_in_path("model", "The pipeline's name, or `pipeline:policy`."),),
        errors=(404,),
    ),
    ("POST", "/v1/runs"): Operation(
        id="beginRun",
        summary="Every event of a run as it happens; an event's id is its number.",
        takes=ChatRequest,
        gives=None,
        streams=(RunEvent,),
        errors=_RUN_ERRORS,
        has_run=True,
    ),
    ("GET", "/v1/runs/{run}"): Operation(
        id="showRun",
        summary="How a run stands.",
        gives=RunOut,
        parameters=(_in_path("run", "The run's id."),),
        errors=(404,),
    ),
    ("DELETE", "/v1/runs/{run}"): Operation(
        id="cancelRun",
        summary="End a run, if it is not over.",
        gives=RunOut,
        parameters=(_in_path("run", "The run's id."),),
        errors=(404,),
    ),
    ("GET", "/v1/runs/{run}/events"): Operation(
        id="attachToRun",
        summary="The events behind the one that `Last-Event-ID` names; 204 if there are none and never will be.",
        gives=None,
        streams=(RunEvent,),
        parameters=(
            _in_path("run", "The run's id."),
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The number of the last event that was received.",
                "schema": {"type": "string", "pattern": "^[0-9]{1,15}$"},
            },
        ),
        errors=(400, 404),
        has_run=True,
    ),
    ("GET", "/v1/history"): Operation(
        id="listHistory",
        summary="Past runs of this key, the newest first, where history is kept.",
        gives=history.PastRunList,
        parameters=(
            _in_query(
                "limit", "How many.", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED}
            ),
            _in_query("after", "What an earlier page has as `next`.", {"type": "string"}),
            _in_query("pipeline", "Only runs of this pipeline.", {"type": "string"}),
        ),
        errors=(400, 404),
    ),
    ("DELETE", "/v1/history"): Operation(
        id="forgetHistory", summary="Delete all past runs of this key.", gives=history.Forgotten, errors=(404,)
    ),
    ("GET", "/v1/history/{run}"): Operation(
        id="showPastRun",
        summary="A past run: whole, its events as JSON lines, or a trace for Perfetto and Chrome.",
        gives=history.PastRunOut,
        or_gives=(history.TraceOut,),
        files=(JSONL,),
        parameters=(
            _in_path("run", "The run's id."),
            _in_query("format", "What of it.", {"enum": list(get_args(Format)), "default": "json"}),
        ),
        errors=(400, 404),
    ),
    ("DELETE", "/v1/history/{run}"): Operation(
        id="forgetPastRun",
        summary="Delete a past run.",
        gives=history.Forgotten,
        parameters=(_in_path("run", "The run's id."),),
        errors=(404,),
    ),
    ("GET", "/healthz"): Operation(id="live", summary="The process lives.", gives=Status, is_open=True),
    ("GET", "/readyz"): Operation(
        id="ready", summary="The server takes requests.", gives=Status, errors=(503,), is_open=True
    ),
}


def make_document(service: Service, routes: Iterable[Route]) -> Json:
    """The document for the operations that these routes serve."""
    served = {(method, route.path_format) for route in routes for method in route.methods or ()}
    described = {key: one for key, one in OPERATIONS.items() if key in served}
    has_keys = not isinstance(service.gate, OpenGate)
    paths: dict[str, Json] = {}
    for (method, path), one in described.items():
        paths.setdefault(path, {})[method.lower()] = _describe(one, has_keys)
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "stairstream",
            "version": stairstream.__version__,
            "description": "An OpenAI-compatible server in which every pipeline is a model.",
        },
        "paths": paths,
        "components": {
            "schemas": _make_schemas(described.values(), service),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key."},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
            },
        },
    }


def show_document(document: Json) -> Handler:
    """The handler."""
    body = msgspec.json.encode(document)

    async def show(exchange: Exchange) -> None:
        await exchange.answer(200, body, [JSON])

    return show


def _describe(one: Operation, has_keys: bool) -> Json:
    described: Json = {"operationId": one.id, "summary": one.summary, "responses": _describe_answers(one)}
    if one.parameters:
        described["parameters"] = list(one.parameters)
    if one.takes is not None:
        content = {"application/json": {"schema": _ref(one.takes)}}
        described["requestBody"] = {"required": True, "content": content}
    if has_keys and not one.is_open:
        described["security"] = [{"key": []}, {"x-api-key": []}]
    return described


_EVENT: Json = {
    "type": "object",
    "properties": {"data": {"type": "string"}, "event": {"type": "string"}, "id": {"type": "string"}},
    "required": ["data"],
}


def _describe_answers(one: Operation) -> Json:
    content: Json = {}
    if one.gives is not None:
        refs = [_ref(shape) for shape in (one.gives, *one.or_gives)]
        content["application/json"] = {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}
    content |= {kind: {"schema": {"type": "string"}} for kind in one.files}
    if one.streams:
        shapes = ", ".join(shape.__name__ for shape in one.streams)
        text = f"Server-sent events; the data of each is one of: {shapes}. A chat's last is [DONE]."
        content["text/event-stream"] = {"itemSchema": {**_EVENT, "description": text}}
    good: Json = {"description": one.summary, "content": content}
    if one.has_run:
        good["headers"] = {
            name: {"description": what, "schema": {"type": "string"}} for name, what in _RUN_HEADERS.items()
        }
    answers = {"200": good}
    if one.id == "attachToRun":
        answers["204"] = {"description": "The run is over, and all its events were received."}
    statuses = sorted({*one.errors, *(() if one.is_open else _ANY_CALL)})
    return answers | {str(status): _describe_error(status, one.fails) for status in statuses}


def _describe_error(status: int, shape: type) -> Json:
    described: Json = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": _ref(shape)}},
    }
    if status in (429, 502, 503):
        text = "Seconds after which to try again, where that is known."
        described["headers"] = {"Retry-After": {"description": text, "schema": {"type": "string"}}}
    return described


def _ref(shape: type) -> Json:
    return {"$ref": _REF.format(name=shape.__name__)}


def _make_schemas(operations: Iterable[Operation], service: Service) -> Json:
    shapes: Sequence[Any] = [ErrorBody]
    for one in operations:
        shapes = [
            *shapes,
            *(shape for shape in (one.takes, one.gives, *one.or_gives, one.fails, *one.streams) if shape is not None),
        ]
    _, schemas = msgspec.json.schema_components(list(dict.fromkeys(shapes)), ref_template=_REF)
    if "StairstreamOptions" in schemas:
        _tighten(schemas, service)
    return schemas


def _tighten(schemas: Json, service: Service) -> None:
    """What is checked behind the shapes, because the configuration says it, or to say more than that it is wrong."""
    options, numbers = schemas["StairstreamOptions"], schemas["PolicyNumbers"]
    for closed in (options, numbers):
        closed["additionalProperties"] = False
    policy = options["properties"]["policy"]
    policy["anyOf"] = [{"enum": list(NAMES)} if kind.get("type") == "string" else kind for kind in policy["anyOf"]]
    for kind in options["properties"]["keep_s"]["anyOf"]:
        if kind.get("type") == "number":
            kind["maximum"] = service.catalog.limits.keep_s
    for name in ("ChatRequest", "MessagesRequest", "MessagesQuestion"):
        schemas[name]["properties"]["messages"]["maxItems"] = service.catalog.limits.messages
    for kind in schemas["ResponsesRequest"]["properties"]["input"]["anyOf"]:
        if kind.get("type") == "array":
            kind["maxItems"] = service.catalog.limits.messages
