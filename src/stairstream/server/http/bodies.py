"""Decodes request bodies into their shapes: a wrong field is a clear 400, unknown fields are listed."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from stairstream.config.reading import nearest
from stairstream.server.errors import ApiError, bad

Fields = Mapping[str, msgspec.Raw]
"""The fields of a body as they came, by name; null counts as not given."""

Request = TypeVar("Request", bound=msgspec.Struct)

_NULL = msgspec.Raw(b"null")
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_MISSING = re.compile(r"Object missing required field (.+)")
_NOT_THERE = re.compile(r"Invalid (?:enum )?value '(.*)'", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def read_fields(data: bytes | msgspec.Raw) -> Fields:
    """The fields of a JSON object. Raises msgspec.DecodeError for anything else."""
    return {name: raw for name, raw in _decode_fields(data).items() if raw != _NULL}


def refuse_fields(fields: Fields, problems: Mapping[str, str]) -> None:
    """Raise ApiError for a field that is not supported and must not be ignored: it would change the answer."""
    for name, problem in problems.items():
        if name in fields:
            raise bad(name, problem, "unsupported_parameter")


class Shape(Generic[Request]):
    """The shape of a request body. Unknown keys at the paths in `passed` are not listed: they are checked elsewhere, or
    passed to models as they came."""

    def __init__(self, request: type[Request], passed: Collection[str] = ()) -> None:
        self._decoder = msgspec.json.Decoder(request)
        self._schema = _schema_of(inspect.type_info(request))
        self._passed = frozenset(passed)

    def decode(self, body: bytes) -> tuple[Request, Fields]:
        """Returns the body, and its fields as they came. Raises ApiError, which names the parameter."""
        if not body:
            raise _no_json("the body is empty; it must be a JSON object")
        try:
            return self._decode(body), read_fields(body)
        except msgspec.ValidationError as exc:
            raise self._explain(str(exc), body) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise _no_json(f"the body is not JSON: {exc}") from None
        except RecursionError:
            raise _no_json("the body is nested too deeply") from None

    def _decode(self, body: bytes) -> Request:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as exc:
            if "got `float`" not in str(exc):
                raise
            # to JSON 100.0 is a whole number too
            return msgspec.convert(_with_whole_numbers(msgspec.json.decode(body)), self._decoder.type)

    def list_unknown(self, body: bytes) -> tuple[str, ...]:
        """The paths of unknown fields, as in `messages[].name`; each once."""
        return tuple(dict.fromkeys(self._find_unknown(msgspec.json.decode(body), self._schema, "")))

    def _find_unknown(self, value: object, schema: "_Schema", path: str) -> Iterator[str]:
        if isinstance(value, list):
            for one in value:
                yield from self._find_unknown(one, schema, f"{path}[]")
        elif isinstance(value, dict) and (known := schema.keys_of(value)) is not None:
            for name, one in value.items():
                where = f"{path}.{name}" if path else name
                if where in self._passed or one is None or name == schema.tag_field:
                    continue
                if name not in known:
                    yield where
                elif known[name].kinds:
                    yield from self._find_unknown(one, known[name], where)

    def _explain(self, text: str, body: bytes) -> ApiError:
        """Rewrite msgspec's message: the parameter comes first, and the allowed values are named."""
        problem, _, path = text.partition(" - at `")
        path, problem = path.rstrip("`").removeprefix("$"), problem.replace("`", "")
        if found := _MISSING.fullmatch(problem):
            path, problem = f"{path}.{found[1]}", "is missing"
        elif found := _NOT_THERE.fullmatch(problem):
            schema = self._find_schema(msgspec.json.decode(body), path)
            problem = f"{found[1][:80]!r} is not known here{nearest(found[1], schema.words)}"
            problem += ", or a number" if schema.takes_number and "did you mean" not in problem else ""
        param = path.removeprefix(".") or None
        return ApiError(status=400, message=f"{param or 'the body'}: {problem}", param=param)

    def _find_schema(self, value: object, path: str) -> "_Schema":
        """The schema at a path, as far as the path can be followed."""
        schema = self._schema
        for name, number in _STEP.findall(path):
            if isinstance(value, list) and number:
                value = value[int(number)]
            elif isinstance(value, dict) and name:
                if name == schema.tag_field:
                    return _Schema(kinds={}, words=tuple(str(kind) for kind in schema.kinds))
                schema, value = (schema.keys_of(value) or {}).get(name, _ANYTHING), value.get(name)
        return schema


@dataclass(frozen=True, slots=True, kw_only=True)
class _Schema:
    """The values allowed at one path, or in a list there: keys of objects by their tag (None: untagged), and words."""

    kinds: Mapping[object, Mapping[str, "_Schema"]]
    tag_field: str | None = None
    words: tuple[str, ...] = ()
    takes_number: bool = False

    def keys_of(self, value: Mapping[str, object]) -> Mapping[str, "_Schema"] | None:
        """The keys that this object may have; None if any key may."""
        tag = value.get(self.tag_field) if self.tag_field else None
        return self.kinds.get(tag) if isinstance(tag, str | None) else None


_ANYTHING = _Schema(kinds={})


def _schema_of(given: inspect.Type) -> _Schema:
    types = list(_flatten(given))
    structs = [one for one in types if isinstance(one, inspect.StructType)]
    literals = [one for one in types if isinstance(one, inspect.LiteralType)]
    return _Schema(
        kinds={one.tag: {field.encode_name: _schema_of(field.type) for field in one.fields} for one in structs},
        tag_field=structs[0].tag_field if structs else None,
        words=tuple(word for one in literals for word in one.values if isinstance(word, str)),
        takes_number=any(isinstance(one, inspect.IntType | inspect.FloatType) for one in types),
    )


def _flatten(given: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union or of a list's items, however deep."""
    match given:
        case inspect.Metadata(type=inner) | inspect.ListType(item_type=inner):
            yield from _flatten(inner)
        case inspect.UnionType(types=inner):
            for one in inner:
                yield from _flatten(one)
        case _:
            yield given


def _with_whole_numbers(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _with_whole_numbers(one) for key, one in value.items()}
        case list():
            return [_with_whole_numbers(one) for one in value]
        case _:
            return value


def _no_json(message: str) -> ApiError:
    return ApiError(status=400, message=message, code="invalid_json")
