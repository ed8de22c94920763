"""A request's body becomes what is to be run: pipeline, conversation, and how the answer is to be given.

Bad input becomes a clear ApiError here and nowhere else.
"""

from collections.abc import Sequence

import msgspec

from stairstream.api import Pipeline
from stairstream.config.policies import NUMBERS, own_policy
from stairstream.config.reading import Where, check_keys, nearest
from stairstream.core.asked import Asked
from stairstream.core.errors import ConfigError
from stairstream.core.messages import Conversation, split_begun
from stairstream.core.policy import Policy
from stairstream.server.asking.asking import Asking
from stairstream.server.asking.fusion import FUSION, fuse
from stairstream.server.asking.single import SINGLE, single_of
from stairstream.server.asking.takes import check_takes
from stairstream.server.asking.turns import read_turns
from stairstream.server.chat.wire import ChatRequest
from stairstream.server.errors import ApiError, bad
from stairstream.server.http.bodies import Fields, Shape
from stairstream.server.service import Service
from stairstream.server.wire.formats import TextFormat
from stairstream.server.wire.options import Plugin, PolicyNumbers, StairstreamOptions

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_CHAT = Shape(ChatRequest, passed=("stairstream", "tools", "tool_choice", "response_format"))
_OPTIONS = StairstreamOptions.__struct_fields__
_NO_OPTIONS = StairstreamOptions()
_NULL = b"null"


def read_chat(body: bytes, service: Service) -> Asking:
    """What the body of a chat completion asks for. Raises ApiError, which names the parameter."""
    request, fields = _CHAT.decode(body)
    _refuse(request, fields)
    notes: list[str] = []
    asked = _read_asked(request, fields, notes)
    options = read_options(request.stairstream, fields)
    pipeline = choose_pipeline(request.model, options, service, request.plugins or ())
    conversation = _read_conversation(request, service)
    plugins = [f"plugins.{plugin.id}" for plugin in request.plugins or () if plugin.id != FUSION]
    return make_asking(
        service,
        pipeline=pipeline,
        model=request.model,
        conversation=conversation,
        asked=asked,
        options=options,
        is_stream=bool(request.stream),
        wants_usage=bool(request.stream_options and request.stream_options.include_usage),
        ignored=(*_CHAT.list_unknown(body), *plugins),
        notes=notes,
    )


def make_asking(
    service: Service,
    *,
    pipeline: Pipeline,
    model: str,
    conversation: Conversation,
    asked: Asked,
    options: StairstreamOptions,
    is_stream: bool,
    ignored: tuple[str, ...],
    notes: list[str],
    wants_usage: bool = False,
) -> Asking:
    """What has been read, in whatever protocol, once it is known that the models take it."""
    check_takes(pipeline, conversation, asked, notes)
    return Asking(
        pipeline=pipeline,
        model=model,
        conversation=conversation,
        policy_name=_name_policy(pipeline, conversation, asked, notes),
        asked=asked,
        is_stream=is_stream,
        wants_usage=wants_usage,
        show=options.show or "none",
        keep_s=_read_keep_s(options, service),
        ignored=ignored,
        notes=tuple(notes),
    )


def _refuse(request: ChatRequest, fields: Fields) -> None:
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
    refuse_choice(request.tool_choice not in (None, "none", "auto"), request.tools)


def refuse_choice(must_call: bool, tools: Sequence[object] | None) -> None:
    """ApiError where some tool must be called and none is there."""
    if must_call and not tools:
        raise bad("tool_choice", "asks for a call, and there are no tools")


def read_options(given: StairstreamOptions | None, fields: Fields) -> StairstreamOptions:
    """What is said in `stairstream`; ApiError for a key that is not known there."""
    raw = fields.get("stairstream")
    if raw is not None and bytes(raw) != _NULL:
        try:
            options = _decode_fields(raw)
            check_keys(options, _OPTIONS, Where(file=""))
            if bytes(options.get("policy", _NULL)).startswith(b"{"):
                check_keys(_decode_fields(options["policy"]), NUMBERS, Where(file="", path="policy"))
        except ConfigError as exc:
            raise _as_api_error(exc) from None
    return given or _NO_OPTIONS


def _as_api_error(exc: ConfigError) -> ApiError:
    """What the configuration's own checks say of the object `stairstream`; their text begins with the key."""
    key, _, problem = str(exc).partition(": ")
    if not problem or " " in key:
        return bad("stairstream", str(exc))
    return bad(f"stairstream.{key}", problem)


def _read_asked(request: ChatRequest, fields: Fields, notes: list[str]) -> Asked:
    """What is wanted of the answer; what was changed about it is noted."""
    most, old = request.max_completion_tokens, request.max_tokens
    if most is not None and old is not None and most != old:
        notes.append(f"max_completion_tokens ({most}) counts, not max_tokens ({old})")
    seed = request.seed
    if seed is not None and seed < 0:
        notes.append("a seed below 0 counts as none")
        seed = None
    has_format = request.response_format is not None and not isinstance(request.response_format, TextFormat)
    return Asked(
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
    )


def choose_pipeline(
    model: str, options: StairstreamOptions, service: Service, plugins: Sequence[Plugin] = ()
) -> Pipeline:
    """The pipeline that is asked for, or that the request describes, with the policy that it wants."""
    name, has_preset, preset = model.partition(":")
    for plugin in plugins:
        if plugin.id == FUSION and plugin.enabled is not False:
            fused = fuse(plugin, name, service)
            is_ours = has_preset and (name in service.backends or name in service.pipelines)
            return _with_options(_with_preset(fused, preset, options) if is_ours else fused, options)
    pipeline = service.pipelines.get(name)
    if pipeline is None:
        message = f"model: no pipeline is called {name[:80]!r}{nearest(name, service.pipelines)}"
        raise ApiError(status=404, message=message, param="model", code="model_not_found")
    if not has_preset:
        return _with_options(pipeline, options)
    if preset == SINGLE:
        return _with_options(single_of(pipeline, service), options)
    return _with_options(_with_preset(pipeline, preset, options), options)


def _with_preset(pipeline: Pipeline, preset: str, options: StairstreamOptions) -> Pipeline:
    """The pipeline with the policy that stands behind its name."""
    if options.policy is not None:
        raise bad("stairstream.policy", f"model already says {preset[:80]!r}; leave one of the two out")
    try:
        return pipeline.with_policy(preset)
    except ConfigError as exc:
        raise bad("model", str(exc).removeprefix("policy: ")) from None


def _with_options(pipeline: Pipeline, options: StairstreamOptions) -> Pipeline:
    numbers = _numbers_of(options)
    if options.policy is None and not numbers:
        return pipeline
    try:
        return pipeline.with_policy(_read_policy(options), numbers)
    except ConfigError as exc:
        raise _as_api_error(exc) from None


def _read_policy(options: StairstreamOptions) -> Policy | str | None:
    if isinstance(options.policy, PolicyNumbers):
        return own_policy(_numbers_of(options.policy), Where(file="", path="policy"))
    return options.policy


def _numbers_of(section: PolicyNumbers | StairstreamOptions) -> dict[str, object]:
    return {name: value for name in NUMBERS if (value := getattr(section, name)) is not None}


def _name_policy(pipeline: Pipeline, conversation: Conversation, asked: Asked, notes: list[str]) -> str:
    """What the answering agent reads by; what forces it is noted."""
    answering = pipeline.graph.agent(pipeline.graph.answer)
    if not answering.reads:
        return "none"
    turns, _ = split_begun(conversation)
    if turns and turns[-1].role == "tool":
        notes.append("the result of a tool: only the answering agent goes on, proposers answer once per user turn")
        return "none"
    if asked.waits and pipeline.settings.policy_name != "wait":
        what = "tools" if asked.tools is not None else "response_format"
        notes.append(f"{what}: the answering agent waits until all that it reads is complete")
    return "wait" if asked.waits else pipeline.settings.policy_name


def _read_conversation(request: ChatRequest, service: Service) -> Conversation:
    most = service.limits.messages
    if len(request.messages) > most:
        raise bad("messages", f"{len(request.messages)} of them are more than this server takes ({most})")
    return read_turns(request.messages)


def _read_keep_s(options: StairstreamOptions, service: Service) -> float:
    keep_s, most_s = options.keep_s or 0.0, service.limits.keep_s
    if keep_s > most_s:
        raise bad("stairstream.keep_s", f"{keep_s:g} is more than this server keeps a run ({most_s:g} seconds)")
    return keep_s
