"""A JSON Schema of the configuration file, for editors, made from the types that `reading` reads.

It says which keys there are and what their values look like. What takes more than one part of a file to see, as whether
a model of that name is there, only the reader checks.
"""

import inspect
import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from importlib.resources import files
from math import inf
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from stairstream.config.backends import BACKENDS
from stairstream.config.models import CommonKeys, model_parts
from stairstream.config.pipelines import RunKeys
from stairstream.config.reading import Bound, DescribesItself, ReadsItself, Schema
from stairstream.config.schema import pipeline_parts
from stairstream.config.server import ServerConfig
from stairstream.config.topologies import TOPOLOGIES

TITLE = "The configuration of stairstream"

_ENVIRONMENT: Schema = {
    "description": "A text with the value of an environment variable in it.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
}
_NULL: Schema = {"type": "null"}


def make_schema() -> Schema:
    """The schema of a whole file, in the dialect 2020-12."""
    made = _Definitions()
    models = made.choice("backend", CommonKeys, {name: model_parts(kind) for name, kind in BACKENDS.items()})
    pipelines = made.choice("topology", RunKeys, {name: pipeline_parts(kind) for name, kind in TOPOLOGIES.items()})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "type": "object",
        "properties": {
            "models": _named(models, r"\S"),
            "pipelines": _named(pipelines, r"^(?=.*\S)[^:]*$"),
            "server": _or_null(made.value(ServerConfig)),
        },
        "required": ["models", "pipelines"],
        "additionalProperties": False,
        "$defs": dict(sorted(made.definitions.items())),
    }


def _named(entry: Schema, pattern: str) -> Schema:
    """At least one entry, under names of this pattern."""
    names = {"pattern": pattern}
    return {"type": "object", "additionalProperties": entry, "propertyNames": names, "minProperties": 1}


class _Definitions:
    """Schemas of types, each defined once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def value(self, kind: Any) -> Schema:
        """The schema of a value with this annotation."""
        origin = get_origin(kind)
        if origin is Annotated:
            inner, mark = get_args(kind)[:2]
            return {**self.value(inner), **(_limits(mark) if isinstance(mark, Bound) else {})}
        if origin in (types.UnionType, Union):
            return self._one_of(one for one in get_args(kind) if one is not types.NoneType)
        if origin is Literal:
            return {"anyOf": [{"enum": list(get_args(kind))}, self._define("environment", _ENVIRONMENT)]}
        if origin is tuple:
            return {"type": "array", "items": self.value(get_args(kind)[0])}
        if origin is Mapping:
            return {"type": "object", "additionalProperties": self.value(get_args(kind)[1])}
        if kind in _PLAIN:
            return {"type": _PLAIN[kind]}
        if kind.__name__ not in self.definitions:
            self._define(kind.__name__, {"description": _docstring(kind), **self._describe(kind)})
        return _reference(kind.__name__)

    def _describe(self, kind: type) -> Schema:
        if isinstance(kind, DescribesItself):
            return kind.json_schema(self)
        assert not isinstance(kind, ReadsItself), f"{kind.__name__} reads itself, so it has to describe itself"
        return self.section(kind)

    def section(self, *parts: type) -> Schema:
        """The schema of a mapping with the keys of these dataclasses, and no others."""
        return self._mapping({}, parts)

    def choice(self, key: str, says: type, options: Mapping[str, tuple[type, ...]]) -> Schema:
        """The schema of a mapping whose keys depend on the value of one, which is described with those of `says`."""
        chooser = {**self.value(Literal[tuple(options)]), "description": _descriptions()[says.__name__][key]}
        cases = []
        for name, parts in options.items():
            mapping = {"description": _docstring(parts[0]), **self._mapping({key: {"const": name}}, parts)}
            then = self._define(f"{key} {name}", mapping)
            cases.append({"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": then})
        return {"type": "object", "properties": {key: chooser}, "required": [key], "allOf": cases}

    def _mapping(self, chosen: Mapping[str, Schema], parts: Iterable[type]) -> Schema:
        properties, required = dict(chosen), list(chosen)
        for part in parts:
            hints = get_type_hints(part, include_extras=True)
            for one in fields(part):
                properties[one.name] = self._key(part, one, hints[one.name])
                if one.default is MISSING and one.default_factory is MISSING:
                    required.append(one.name)
        needs: Schema = {"required": required} if required else {}
        return {"type": "object", "properties": properties, **needs, "additionalProperties": False}

    def _key(self, part: type, one: "Field[Any]", kind: Any) -> Schema:
        """The schema of a key: one that may be left out may be empty too, as `server:` without anything in it."""
        is_optional = one.default is not MISSING or one.default_factory is not MISSING
        schema = _or_null(self.value(kind)) if is_optional else self.value(kind)
        said = _descriptions().get(part.__name__, {}).get(one.name)
        described: Schema = {"description": said} if said else {}
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        has_default = isinstance(default, bool | int | float | str | list) and default not in ("", [])
        return {**described, **schema, **({"default": default} if has_default else {})}

    def _one_of(self, kinds: Iterable[Any]) -> Schema:
        """As the reader takes a union: one of the words, or what stands last."""
        kinds = list(kinds)
        words = next((one for one in kinds if get_origin(one) is Literal), None)
        if words is None or words is kinds[-1]:
            return self.value(kinds[-1])
        return {"anyOf": [self.value(words), self.value(kinds[-1])]}

    def _define(self, name: str, schema: Schema) -> Schema:
        name = name.replace(" ", ".")
        self.definitions[name] = schema
        return _reference(name)


_PLAIN: Mapping[object, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _limits(bound: Bound) -> Schema:
    limits = {"minimum": bound.least, "exclusiveMinimum": bound.above, "maximum": bound.most}
    return {name: limit for name, limit in limits.items() if abs(limit) < inf}


def _or_null(schema: Schema) -> Schema:
    match schema:
        case {"type": str() as kind}:
            return {**schema, "type": [kind, "null"]}
        case {"anyOf": list() as options}:
            return {**schema, "anyOf": [*options, _NULL]}
        case _:
            return {"anyOf": [schema, _NULL]}


def _docstring(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())


@cache
def _descriptions() -> Mapping[str, Mapping[str, str]]:
    """The meaning of each key by the documentation, by dataclass."""
    found: Mapping[str, Mapping[str, str]] = json.loads(
        files("stairstream.config").joinpath("descriptions.json").read_text(encoding="utf-8")
    )
    return found
