"""Explains why JSON has not the shape that was wanted: the path of what is wrong, and the problem in words."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from stairstream.config.reading import nearest

_MISSING = re.compile(r"Object missing required field (.+)")
_NOT_THERE = re.compile(r"Invalid (?:enum )?value '(.*)'", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_NULL = msgspec.Raw(b"null")
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The values allowed at one path, or in a list there: keys of objects by their tag (None: untagged), and words."""

    kinds: Mapping[object, Mapping[str, "Expected"]]
    tag_field: str | None = None
    words: tuple[str, ...] = ()
    takes_number: bool = False

    @property
    def has_numbers(self) -> bool:
        """Whether a number is allowed here, or further inside."""
        return self.takes_number or any(one.has_numbers for kind in self.kinds.values() for one in kind.values())

    def keys_of(self, value: Mapping[str, object]) -> Mapping[str, "Expected"] | None:
        """The keys that this object may have; None if any key may."""
        tag = value.get(self.tag_field) if self.tag_field else None
        if isinstance(tag, msgspec.Raw):
            tag = msgspec.json.decode(tag)
        return self.kinds.get(tag) if isinstance(tag, str | None) else None


_ANYTHING = Expected(kinds={})


def _expected_of(given: inspect.Type) -> Expected:
    types = list(_flatten(given))
    structs = [one for one in types if isinstance(one, inspect.StructType)]
    literals = [one for one in types if isinstance(one, inspect.LiteralType)]
    return Expected(
        kinds={one.tag: {field.encode_name: _expected_of(field.type) for field in one.fields} for one in structs},
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


def expected_of(kind: Any) -> Expected:
    """The values that a type allows."""
    return _expected_of(inspect.type_info(kind))


def explain(text: str, expected: Expected, data: bytes) -> tuple[str, str]:
    """The path and the problem of a message of msgspec's about this data; the path is empty for the whole of it."""
    problem, _, path = text.partition(" - at `")
    path, problem = path.rstrip("`").removeprefix("$"), problem.replace("`", "")
    if found := _MISSING.fullmatch(problem):
        path, problem = f"{path}.{found[1]}", "is missing"
    elif found := _NOT_THERE.fullmatch(problem):
        there = _find(expected, msgspec.Raw(data), path)
        problem = f"{found[1][:80]!r} is not known here{nearest(found[1], there.words)}"
        problem += ", or a number" if there.takes_number and "did you mean" not in problem else ""
    return path.removeprefix("."), problem


def _find(expected: Expected, value: msgspec.Raw, path: str) -> Expected:
    """The values expected at a path, as far as the path can be followed."""
    for name, number in _STEP.findall(path):
        if number:
            value = _decode_list(value)[int(number)]
            continue
        if name == expected.tag_field:
            return Expected(kinds={}, words=tuple(str(kind) for kind in expected.kinds))
        fields = _decode_object(value)
        expected, value = (expected.keys_of(fields) or {}).get(name, _ANYTHING), fields.get(name, _NULL)
    return expected
