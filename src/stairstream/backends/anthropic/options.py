"""Options of a request in the words of the Messages API: tools, the form of the answer, sampling."""

from typing import Annotated

import msgspec

from stairstream.backends.endpoint import Fields
from stairstream.backends.forms import schema_of
from stairstream.core.errors import RequestRejected
from stairstream.core.graph import Extras, Sampling
from stairstream.core.session import Note, Setting

SETTINGS: tuple[Setting, ...] = ("top_k",)
"""Settings of a request that the API takes besides those of sampling."""

_MOST_TEMPERATURE = 1.0


def make_options(extras: Extras, effort: str | None) -> Fields:
    """The fields that a request adds, with the effort that is asked of the model."""
    fields: Fields = {}
    output: Fields = {"effort": effort} if effort else {}
    if extras.tools is not None:
        fields["tools"] = [_tool_of(tool) for tool in msgspec.json.decode(extras.tools, type=list[Fields])]
        if choice := _choice_of(extras):
            fields["tool_choice"] = choice
    if extras.response_format is not None and (form := _form_of(extras.response_format)):
        output["format"] = form
    if extras.user is not None:
        fields["metadata"] = {"user_id": extras.user}
    for name, value in extras.settings:
        if name in SETTINGS:
            fields[name] = _read_count(name, value)
    return {**fields, "output_config": output} if output else fields


def make_sampling(sampling: Sampling) -> Fields:
    """The fields for choosing tokens; the API knows no seed and no penalty."""
    temperature = sampling.temperature
    fields = {
        "temperature": None if temperature is None else min(_MOST_TEMPERATURE, temperature),
        "top_p": sampling.top_p,
    }
    return {name: value for name, value in fields.items() if value is not None}


def ignored_of(sampling: Sampling, where: str) -> tuple[Note, ...]:
    """Notes on what of the sampling the API can't do."""
    texts = [
        f"{name}: {where} has none" for name in ("seed", "repetition_penalty") if getattr(sampling, name) is not None
    ]
    if sampling.temperature is not None and sampling.temperature > _MOST_TEMPERATURE:
        texts.append(f"temperature: {where} takes at most {_MOST_TEMPERATURE:g}")
    return tuple(Note(kind="ignored", text=text) for text in texts)


def forces_tool(fields: Fields) -> bool:
    """Whether a tool must be called: then the API lets no model think."""
    choice = fields.get("tool_choice")
    return isinstance(choice, dict) and choice["type"] in ("any", "tool")


def _read_count(name: str, value: bytes) -> int:
    """A value that the API takes: a wrong one, once rejected, would be taken for what the model does not know."""
    try:
        count: int = msgspec.json.decode(value, type=Annotated[int, msgspec.Meta(ge=0)])
    except msgspec.DecodeError:
        raise RequestRejected(f"{name}: the Messages API takes whole numbers of at least 0") from None
    return count


def _tool_of(tool: Fields) -> Fields:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise RequestRejected(f"tools: the Messages API takes functions, not {tool.get('type')!r}")
    made: Fields = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return made | {name: function[name] for name in ("description", "strict") if function.get(name) is not None}


def _choice_of(extras: Extras) -> Fields | None:
    """The choice of a tool; None leaves it to the model, which may then call several at once."""
    said = msgspec.json.decode(extras.tool_choice) if extras.tool_choice is not None else "auto"
    is_single = extras.parallel_tool_calls is False
    if isinstance(said, dict):
        function = said.get("function")
        choice: Fields = {"type": "tool", "name": function["name"] if isinstance(function, dict) else said.get("name")}
    else:
        choice = {"type": {"required": "any"}.get(said, said)}
    if choice["type"] == "none" or not (is_single or extras.tool_choice is not None):
        return choice if extras.tool_choice is not None else None
    return {**choice, "disable_parallel_tool_use": True} if is_single else choice


def _form_of(response_format: bytes) -> Fields | None:
    schema = schema_of(response_format)
    if schema is None:
        return None
    if schema == {"type": "object"}:
        raise RequestRejected("response_format: the Messages API holds a model to a JSON schema only; give one")
    return {"type": "json_schema", "schema": schema}
