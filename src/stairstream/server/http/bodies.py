"""Decodes request bodies into their shapes: a wrong field is a clear 400, unknown fields are listed."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import Any, Generic, TypeVar

import msgspec

from stairstream.conversations.explaining import Expected, expected_of, explain
from stairstream.server.errors import ApiError, bad
from stairstream.server.http.exchange import Exchange

Fields = Mapping[str, msgspec.Raw]
"""The fields of a body as they came, by name; null counts as not given."""

Request = TypeVar("Request", bound=msgspec.Struct)

MOST_VALUES = 100_000
"""Limit on commas and opening brackets in a body, outside its texts: decoding takes time by their number."""
MOST_DEPTH = 500
"""Limit on objects and lists inside each other. How many the decoder takes depends on the Python: under 3.11 those that
its recursion limit lets through, from 3.12 on, where that is for Python code only, thousands
(https://docs.python.org/3/whatsnew/3.12.html#other-language-changes), too deep for code that walks through them."""
MOST_KEYS = 256
"""Limit on the keys of an object whose keys are known; decoding stops there."""
MOST_SEARCHED = 2_000
"""Objects of a body that are searched for unknown fields, its first ones."""
_MOST_NAMED = 3
_PIECE_BYTES = 262_144
"""Part of a body that is counted at once: milliseconds, whatever it holds."""

_NULL = msgspec.Raw(b"null")
_SEPARATORS, _BRACKETS = b",[{", b"[]{}"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_STEPS = {ord(one): step for one, step in (("[", 1), ("{", 1), ("]", -1), ("}", -1))}
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class TooManyKeys(Exception):
    """An object has more than MOST_KEYS keys; `names` are the first ones."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names


class _Name(str):
    """A key of an object: a type of its own, so that the decoder asks for each key, and can be stopped."""

    __slots__ = ()


def read_keys(data: bytes | msgspec.Raw) -> Fields:
    """The keys of a JSON object, with null. Raises msgspec.DecodeError for anything else, TooManyKeys at once."""
    names: list[str] = []

    def take(_: type, name: str) -> _Name:
        if len(names) == MOST_KEYS:
            raise TooManyKeys(names)
        names.append(name)
        return _Name(name)

    found = msgspec.json.decode(data, type=dict[_Name, msgspec.Raw], dec_hook=take)
    return {str(name): raw for name, raw in found.items()}


def read_fields(data: bytes | msgspec.Raw) -> Fields:
    """As read_keys, without null."""
    return {name: raw for name, raw in read_keys(data).items() if raw != _NULL}


async def read_body(exchange: Exchange) -> bytes:
    """Read the whole body of JSON. Raises ClientLeft, or ApiError for one that would take long to decode."""
    body = await exchange.read_body()
    await check_values(body)
    return body


async def check_values(body: bytes) -> None:
    """Raise ApiError for a body that is not to be decoded.

    413 for one of so many small values that decoding it would hold up all other answers, 400 for one that is nested
    more than MOST_DEPTH deep.
    """
    may_be_deep = body.count(b"[") + body.count(b"{") > MOST_DEPTH
    if len(body) <= MOST_VALUES and not may_be_deep:
        return
    counter = _Counter(counts_depth=may_be_deep)
    for start in range(0, len(body), _PIECE_BYTES):
        counter.take(body[start : start + _PIECE_BYTES])
        if counter.number > MOST_VALUES:
            message = f"the body has more commas and opening brackets outside its texts than {MOST_VALUES}, the limit"
            raise ApiError(status=413, message=message, code="request_too_large")
        if counter.deepest > MOST_DEPTH:
            raise _no_json("the body is nested too deeply")
        await asyncio.sleep(0)


class _Counter:
    """Counts commas and opening brackets outside the texts of JSON that comes in pieces, and how deep these nest."""

    def __init__(self, *, counts_depth: bool) -> None:
        self.number = self.deepest = 0
        self._depth = 0
        self._counts_depth = counts_depth
        self._is_text = False
        self._rest = b""

    def take(self, piece: bytes) -> None:
        piece = self._rest + piece
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # the last backslash belongs to the next piece
            piece, self._rest = piece[:-1], b"\\"
        else:
            self._rest = b""
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(parts[self._is_text :: 2])
        self.number += len(outside) - len(outside.translate(None, _SEPARATORS))
        if self._counts_depth and self.number <= MOST_VALUES:
            self._dig(outside.translate(None, _NO_BRACKETS))
        self._is_text ^= len(parts) % 2 == 0

    def _dig(self, brackets: bytes) -> None:
        depths = list(accumulate(map(_STEPS.__getitem__, brackets), initial=self._depth))
        self._depth = depths[-1]
        self.deepest = max(self.deepest, *depths)


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
        self._expected = expected_of(request)
        self._passed = frozenset(passed)
        fields = self._expected.kinds[None]
        self._numbers = frozenset(name for name, one in fields.items() if one.has_numbers)

    def decode(self, body: bytes) -> tuple[Request, Fields]:
        """Returns the body, and its fields as they came. Raises ApiError, which names the parameter."""
        if not body:
            raise _no_json("the body is empty; it must be a JSON object")
        try:
            fields = read_fields(body)  # first: it stops early
            return self._decode(body, fields), fields
        except TooManyKeys as exc:
            raise _refuse_keys(exc, self._expected, "") from None
        except msgspec.ValidationError as exc:
            raise self._explain(str(exc), body) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise _no_json(f"the body is not JSON: {exc}") from None

    def _decode(self, body: bytes, fields: Fields) -> Request:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as exc:
            if "got `float`" not in str(exc):
                raise
            # to JSON 100.0 is a whole number too; only fields that may hold numbers are decoded to values
            whole = {name: _with_whole_numbers(raw) if name in self._numbers else raw for name, raw in fields.items()}
            return self._decoder.decode(msgspec.json.encode(whole))

    def list_unknown(self, fields: Fields) -> tuple[str, ...]:
        """The paths of unknown fields, as in `messages[].name`; each once. Raises ApiError for an object of too many.

        Only the first MOST_SEARCHED objects are searched.
        """
        return tuple(dict.fromkeys(self._unknown_of(fields, self._expected, "", iter(range(MOST_SEARCHED)))))

    def _find_unknown(self, raw: msgspec.Raw, expected: Expected, path: str, left: Iterator[int]) -> Iterator[str]:
        """The unknown fields in the value `raw`; `left` ends when no more objects are to be searched."""
        match bytes(memoryview(raw)[:1]):
            case b"[":
                for one, _ in zip(_decode_list(raw), left, strict=False):
                    yield from self._find_unknown(one, expected, f"{path}[]", left)
            case b"{":
                try:
                    fields = read_fields(raw)
                except TooManyKeys as exc:
                    raise _refuse_keys(exc, expected, path) from None
                yield from self._unknown_of(fields, expected, path, left)

    def _unknown_of(self, fields: Fields, expected: Expected, path: str, left: Iterator[int]) -> Iterator[str]:
        known = expected.keys_of(fields)
        if known is None:
            return
        for name, one in fields.items():
            where = f"{path}.{name}" if path else name
            if where in self._passed or name == expected.tag_field:
                continue
            if name not in known:
                yield where
            elif known[name].kinds:
                yield from self._find_unknown(one, known[name], where, left)

    def _explain(self, text: str, body: bytes) -> ApiError:
        """The parameter comes first, and the allowed values are named."""
        param, problem = explain(text, self._expected, body)
        return ApiError(status=400, message=f"{param or 'the body'}: {problem}", param=param or None)


def _with_whole_numbers(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(_make_whole(msgspec.json.decode(raw))))
    except OverflowError:  # a number that no field takes
        return raw


def _make_whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _make_whole(one) for key, one in value.items()}
        case list():
            return [_make_whole(one) for one in value]
        case _:
            return value


def _refuse_keys(exc: TooManyKeys, expected: Expected, path: str) -> ApiError:
    """The error for an object of too many keys, which names the first unknown ones."""
    known = {expected.tag_field}.union(*expected.kinds.values())
    unknown = [name for name in exc.names if name not in known][:_MOST_NAMED]
    shown = ", ".join(repr(name[:40]) for name in unknown or exc.names[:_MOST_NAMED])
    return bad(path or "the body", f"has more than {MOST_KEYS} keys; among them {shown}", "too_many_fields")


def _no_json(message: str) -> ApiError:
    return ApiError(status=400, message=message, code="invalid_json")
