"""Plain values to dataclasses, by their annotations.

Each mistake is one line with the file, the key's path, what is wrong and the nearest valid name.
"""

import difflib
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from stairstream.config.yaml_file import FromEnvironment
from stairstream.core.bounds import Bound as Bound
from stairstream.core.errors import ConfigError

T = TypeVar("T")

Schema = dict[str, object]
"""A JSON Schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Marks a text in an annotation that no error may show."""


@runtime_checkable
class ReadsItself(Protocol):
    """A type that is more than the sum of its fields. One of the configuration describes itself too."""

    @classmethod
    def from_raw(cls, raw: object, where: "Where") -> object:
        """A value of this type; ConfigError if the raw value can't be one."""


class Describes(Protocol):
    """Makes JSON Schemas of what `read` takes."""

    def value(self, kind: Any) -> Schema:
        """The schema of a value with this annotation."""

    def section(self, *parts: type) -> Schema:
        """The schema of a mapping with the keys of these dataclasses, and no others."""


@runtime_checkable
class DescribesItself(Protocol):
    """A type that reads itself, with the schema of what it takes."""

    @classmethod
    def json_schema(cls, describes: Describes) -> Schema:
        """The schema of raw values that from_raw takes."""


Whole = Annotated[int, Bound(least=1)]
Seconds = Annotated[float, Bound(least=0, unit=" of seconds")]
Amount = Annotated[float, Bound(least=0)]
Positive = Annotated[float, Bound(above=0)]
Share = Annotated[float, Bound(least=0, most=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A key of a configuration, for errors: its file and the path of keys down to it."""

    file: str
    path: str = ""

    def __truediv__(self, key: object) -> "Where":
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if self.path else str(key)
        return Where(file=self.file, path=self.path + step)

    def error(self, problem: str) -> ConfigError:
        """A ConfigError for this key."""
        return ConfigError(": ".join(part for part in (self.file, self.path, problem) if part))


def read(cls: type[T], raw: object, where: Where, *, also: Iterable[str] = ()) -> T:
    """A dataclass from a mapping, which may have the keys in `also` for another reader.

    A ValueError of the dataclass itself, as in "lead must be a number", becomes an error at that key.
    """
    section = mapping(raw, where)
    hints = get_type_hints(cls, include_extras=True)
    known = [one.name for one in fields(cls)]  # type: ignore[arg-type]
    check_keys(section, [*known, *also], where)
    values: dict[str, Any] = {}
    for one in fields(cls):  # type: ignore[arg-type]
        if section.get(one.name) is not None:
            values[one.name] = _value(hints[one.name], section[one.name], where / one.name)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise (where / one.name).error("is missing")
    try:
        return cls(**values)
    except ValueError as exc:  # a value that checks itself begins what is wrong with the name of the field
        key, _, problem = str(exc).partition(" ")
        raise (where / key).error(problem) from None


def mapping(raw: object, where: Where) -> Mapping[str, object]:
    """The raw value, if it is a mapping whose keys are texts."""
    if not isinstance(raw, dict):
        raise where.error(f"must be a mapping of names to values, not {show(raw)}")
    for key in raw:
        if not isinstance(key, str):
            raise where.error(f"the name {key!r} must be text: put it in quotes")
    return cast(Mapping[str, object], raw)


def check_keys(section: Mapping[str, object], known: Iterable[str], where: Where) -> None:
    """Raises an error for the first unknown key."""
    known = list(known)
    for key in section:
        if key not in known:
            raise (where / key).error(f"unknown key{nearest(key, known)}")


def choose(raw: object, options: Iterable[str], where: Where, what: str) -> str:
    """The raw value, if it is one of the options."""
    options = list(options)
    if isinstance(raw, str) and raw in options:
        return raw
    if not isinstance(raw, str):
        raise where.error(f"must be {what}, not {show(raw)}{nearest('', options)}")
    raise where.error(f"{show(raw)} is not {what}{nearest(raw, options)}")


def nearest(name: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one option is near, else all of them; the end of an error's text."""
    options = list(options)
    found = difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.5) if name else []
    if found:
        return f"; did you mean {found[0]!r}?"
    return f"; there is {', '.join(options)}" if options else ""


def show(raw: object) -> str:
    """A value as it may stand in an error: never what came from the environment, never long."""
    match raw:
        case FromEnvironment():
            return "what is in the environment variable"
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case bool():
            return "true" if raw else "false"
        case str():
            return repr(raw if len(raw) <= 40 else raw[:40] + "...")
        case _:
            return str(raw)


def _value(kind: Any, raw: object, where: Where) -> Any:
    """A raw value as the annotation `kind` wants it."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, mark = get_args(kind)[:2]
        if isinstance(mark, Secret) and not isinstance(raw, str):
            raise where.error("must be text; put it in quotes")
        return _number(inner, raw, mark, where) if isinstance(mark, Bound) else _value(inner, raw, where)
    if origin in (types.UnionType, Union):
        kinds = [one for one in get_args(kind) if one is not types.NoneType]
        # a word or a mapping: what is no mapping must be one of the words
        named = [one for one in kinds if get_origin(one) is Literal]
        return _value(named[0] if named and not isinstance(raw, dict) else kinds[-1], raw, where)
    if origin is Literal:
        return choose(raw, get_args(kind), where, "a valid choice")
    if origin is tuple:
        return _list(get_args(kind)[0], raw, where)
    if origin is Mapping:
        inner = get_args(kind)[1]
        return {name: _value(inner, one, where / name) for name, one in mapping(raw, where).items()}
    if kind is str:
        if not isinstance(raw, str):
            raise where.error(f"must be text, not {show(raw)}")
        return str(raw)
    if kind is bool:
        if not isinstance(raw, bool):
            raise where.error(f"must be true or false, not {show(raw)}")
        return raw
    if kind in (int, float):
        return _number(kind, raw, Bound(), where)
    if isinstance(kind, ReadsItself):
        return kind.from_raw(raw, where)
    return read(kind, raw, where)


def _list(kind: Any, raw: object, where: Where) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise where.error(f"must be a list, as in [one, two], not {show(raw)}")
    return tuple(_value(kind, one, where / number) for number, one in enumerate(raw))


def _number(kind: type[int] | type[float], raw: object, bound: Bound, where: Where) -> float:
    if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw):
        if bound.holds(raw) and (kind is float or raw == int(raw)):
            return kind(raw)
    raise where.error(f"must be {bound.describe(kind is int)}, not {show(raw)}")
