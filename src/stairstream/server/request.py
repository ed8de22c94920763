"""A request's body becomes what is to be run: pipeline, conversation, and how the answer is to be given.

Bad input becomes a clear ApiError here and nowhere else.
"""

from collections.abc import Mapping

import msgspec

from stairstream.api import Pipeline
from stairstream.config.reading import Where, check_keys, nearest
from stairstream.core.errors import ConfigError
from stairstream.server import wire
from stairstream.server.asking import Asking as Asking
from stairstream.server.errors import ApiError
from stairstream.server.fusion import fuse
from stairstream.server.service import Service
from stairstream.server.turns import read_turns

Fields = Mapping[str, msgspec.Raw]

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_request = msgspec.json.Decoder(wire.ChatRequest).decode
_KNOWN = frozenset(wire.ChatRequest.__struct_fields__)
_OPTIONS = wire.StairstreamOptions.__struct_fields__
_NULL = b"null"


def read_chat(body: bytes, service: Service) -> Asking:
    """What the body of a chat completion asks for. Raises ApiError, which names the parameter."""
    request, fields = _decode(body)
    _refuse(request, fields)
    _check_options(fields)
    options = request.stairstream or wire.StairstreamOptions()
    ignored = [name for name, raw in fields.items() if name not in _KNOWN and bytes(raw) != _NULL]
    ignored += [f"plugins.{plugin.id}" for plugin in request.plugins or () if plugin.id != "fusion"]
    most = service.limits.messages
    if len(request.messages) > most:
        raise bad("messages", f"{len(request.messages)} messages are more than this server takes ({most})")
    pipeline = _choose(request, service)
    return Asking(
        pipeline=pipeline,
        model=request.model,
        conversation=read_turns(request.messages),
        policy_name=pipeline.settings.policy_name,
        is_stream=bool(request.stream),
        wants_usage=bool(request.stream_options and request.stream_options.include_usage),
        show=options.show or "none",
        keep_s=_read_keep_s(options, service),
        user=request.user,
        ignored=tuple(ignored),
    )


def bad(param: str, problem: str, code: str | None = None) -> ApiError:
    """A 400 for a parameter."""
    return ApiError(status=400, message=f"{param}: {problem}", param=param, code=code)


def _decode(body: bytes) -> tuple[wire.ChatRequest, Fields]:
    """The body, and each of its fields as it came."""
    try:
        return _decode_request(body), _decode_fields(body)
    except msgspec.ValidationError as exc:
        problem, _, path = str(exc).partition(" - at `")
        param = path.rstrip("`").removeprefix("$").removeprefix(".") or None
        problem = problem.replace("`", "")
        message = f"{param}: {problem}" if param else f"the body: {problem}"
        raise ApiError(status=400, message=message, param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ApiError(status=400, message=f"the body is not JSON: {exc}", code="invalid_json") from None
    except RecursionError:
        raise ApiError(status=400, message="the body is nested too deeply", code="invalid_json") from None


def _refuse(request: wire.ChatRequest, fields: Fields) -> None:
    """What can't be had here, and must not be ignored: the answer would not be what was asked for."""
    if request.n is not None and request.n > 1:
        raise bad("n", "only one answer is given; ask again for another", "unsupported_parameter")
    if request.logprobs:
        raise bad("logprobs", "an answer of several models has no log probabilities", "unsupported_parameter")
    if request.top_logprobs is not None:
        raise bad("top_logprobs", "an answer of several models has no log probabilities", "unsupported_parameter")
    for name in ("functions", "function_call"):
        if name in fields and bytes(fields[name]) != _NULL:
            raise bad(name, "is not supported; use tools", "unsupported_parameter")


def _check_options(fields: Fields) -> None:
    if "stairstream" in fields and bytes(fields["stairstream"]) != _NULL:
        try:
            check_keys(_decode_fields(fields["stairstream"]), _OPTIONS, Where(file="", path="stairstream"))
        except ConfigError as exc:
            raise _as_api_error(exc) from None


def _as_api_error(exc: ConfigError) -> ApiError:
    """What the configuration's own checks say of a request; their text begins with the parameter."""
    return ApiError(status=400, message=str(exc), param=str(exc).partition(":")[0])


def _choose(request: wire.ChatRequest, service: Service) -> Pipeline:
    """The pipeline that is asked for, or one that the request describes."""
    for plugin in request.plugins or ():
        if plugin.id == "fusion" and plugin.enabled is not False:
            return fuse(plugin, request.model, service)
    name, _, _ = request.model.partition(":")
    pipeline = service.pipelines.get(name)
    if pipeline is None:
        message = f"model: no pipeline is called {name[:80]!r}{nearest(name, service.pipelines)}"
        raise ApiError(status=404, message=message, param="model", code="model_not_found")
    return pipeline


def _read_keep_s(options: wire.StairstreamOptions, service: Service) -> float:
    keep_s, most_s = options.keep_s or 0.0, service.limits.keep_s
    if keep_s > most_s:
        raise bad("stairstream.keep_s", f"{keep_s:g} is more than this server keeps a run ({most_s:g} seconds)")
    return keep_s
