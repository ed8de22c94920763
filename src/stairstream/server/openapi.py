"""The OpenAPI document, generated from the routes that are served and the shapes that their operations name."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from starlette.routing import Route

import stairstream
from stairstream.config.policies import NAMES
from stairstream.server.access.gate import OpenGate
from stairstream.server.http.exchange import JSON, Exchange, Handler
from stairstream.server.http.operations import Json, Operation
from stairstream.server.http.routes import Handling
from stairstream.server.runs.answering import Service
from stairstream.server.wire.listings import ErrorBody

_REF = "#/components/schemas/{name}"
_NAMELESS = "; a name that is not plain ASCII is in percent encoding"


_ERRORS = {
    400: "The request is wrong, or an endpoint rejected it; `param` names the parameter.",
    401: "The API key is missing, unknown or revoked.",
    402: "The key's budget is spent, or can't be kept for a model without a price.",
    403: "The request comes from a web page, or by a name, that this server does not know.",
    404: "There is no such model, run or path; or no history is kept.",
    409: "A request with this `Idempotency-Key` has a run already, which `x-stairstream-run` names.",
    413: "The body is larger than this server takes.",
    415: "The content type is not JSON, or the body is compressed.",
    429: "The key's limits are reached, or an endpoint had too many requests; `Retry-After` says how long to wait.",
    502: "An endpoint failed before the first token.",
    503: "The limit of runs at once is reached, or the server is stopping.",
    504: "A deadline passed before the first token.",
}
_ANY_CALL = (401, 403)
_RUN_HEADERS = {
    "x-request-id": "The run's id; `request-id` is the same.",
    "x-stairstream-run": "The run's id.",
    "x-stairstream-pipeline": f"The pipeline{_NAMELESS}.",
    "x-stairstream-policy": "The policy of the answering agent: a preset, its own name, `adaptive`, `custom`, `none`.",
    "x-stairstream-ignored": f"Parameters that this server does not know, with commas between them{_NAMELESS}.",
    "x-stairstream-note": "What was changed about the request.",
}


def make_document(service: Service, routes: Iterable[Route]) -> Json:
    """Returns the document for the operations that these routes serve."""
    has_keys = not isinstance(service.gate, OpenGate)
    paths: dict[str, Json] = {}
    described: list[Operation] = []
    for one in routes:
        if isinstance(one.app, Handling) and (operation := one.app.operation):
            described.append(operation)
            (method,) = (one.methods or set()) - {"HEAD"}
            paths.setdefault(one.path_format, {})[method.lower()] = _describe(operation, has_keys)
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "stairstream",
            "version": stairstream.__version__,
            "description": "An OpenAI-compatible server in which every pipeline is a model.",
        },
        "paths": paths,
        "components": {
            "schemas": _make_schemas(described, service),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key."},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
            },
        },
    }


def show_document(document: Json) -> Handler:
    """Returns the handler that shows the document."""
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
    if one.or_nothing:
        answers["204"] = {"description": one.or_nothing}
    statuses = sorted({*one.errors, *(() if one.is_open else _ANY_CALL)})
    return answers | {str(status): _describe_error(status, one.fails) for status in statuses}


def _describe_error(status: int, shape: type) -> Json:
    described: Json = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": _ref(shape)}},
    }
    if status in (429, 502, 503):
        text = "Seconds after which to try again, where that is known."
        never = "`false` where the same request would fail again."
        described["headers"] = {
            "Retry-After": {"description": text, "schema": {"type": "string"}},
            "x-should-retry": {"description": never, "schema": {"type": "string"}},
        }
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
    """Add limits that the shapes do not hold: they depend on the configuration, or need a better message."""
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
