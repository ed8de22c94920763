"""Events that are not what they should be, read as what they mean: liberal, slow, and only for those few.

Numbers may be text, text a list of parts, a list one thing; NaN and lone surrogates are JSON; keep-alives are nothing.
What could be words and can't be read raises Unreadable: an answer with a hole in it would be worse than none.
"""

import json
import math
from collections.abc import Callable, Iterator

import msgspec

from stairstream.backends.chunks import CANNOT_DECODE, NOTHING, Choice, Chunk, Content, Timings, Unreadable
from stairstream.backends.counts import PromptDetails, RawUsage
from stairstream.backends.tool_calls import RawCall, RawFunction

_LONGEST_BYTES = 256 * 1024
"""Python's own JSON takes a few milliseconds for as much; no other call is served meanwhile."""

_NOTHING = ("", "null", "undefined", "none")
_TEXT_KEYS = ("text", "content", "refusal", "output_text")


def read_oddly(event: bytes, shape: Callable[[object], Chunk | str | None]) -> list[Chunk | str]:
    """The chunks of an event in order, `[DONE]` for the word; an empty list for a keep-alive; else Unreadable.

    `shape` makes a chunk of a decoded value: `chunk_of`, or that of another protocol.
    """
    if len(event) > _LONGEST_BYTES:
        raise Unreadable(f"an event of {len(event)} bytes that is no chunk")
    if not event.strip():
        return []
    # bytes that are no UTF-8 become lone surrogates: they do no harm where they are not read
    text = event.decode(errors="surrogateescape").strip()
    while text[:5] == "data:":  # a gateway in front of another, each with its own
        text = text[5:].strip()
    if text.lower() in _NOTHING:
        return []
    if text.strip('"').upper() == "[DONE]":
        return ["[DONE]"]
    try:
        chunks = [chunk for value in _values_in(text) if (chunk := shape(value)) is not None]
    except CANNOT_DECODE as exc:
        raise Unreadable("it is nested too deep" if isinstance(exc, RecursionError) else str(exc)) from exc
    if not _is_utf8(event) and any(_holds_surrogates(chunk) for chunk in chunks if isinstance(chunk, Chunk)):
        raise Unreadable("bytes that are no UTF-8")
    return chunks


def _values_in(text: str) -> Iterator[object]:
    """The values of an event: one, a list of chunks, or one on each line."""
    try:
        value = json.loads(text, strict=False)
    except json.JSONDecodeError:
        lines = [line.strip().removeprefix("data:").strip() for line in text.splitlines()]
        if len(lines) < 2:
            raise
        for line in lines:
            if line.lower() not in _NOTHING and line != "[DONE]":
                yield json.loads(line, strict=False)
        return
    yield from value if isinstance(value, list) and value else [value]


def chunk_of(value: object) -> Chunk:
    """The chunk of a chat completion that a value means; Unreadable if it can't be one."""
    if not isinstance(value, dict):
        raise Unreadable(f"a JSON {type(value).__name__}, where an object should be")
    choices = value.get("choices") or []
    if isinstance(choices, dict):
        choices = [choices]
    if not isinstance(choices, list):
        raise Unreadable("choices is not a list")
    timings = value.get("timings")
    groq = value.get("x_groq")
    usage = value.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
    return Chunk(
        choices=[_choice_of(choice) for choice in choices if choice],
        usage=usage_of(usage),
        timings=Timings(cache_n=whole(timings.get("cache_n"))) if isinstance(timings, dict) else None,
        error=_raw(_error_in(value)),
    )


def _error_in(value: dict[object, object]) -> object:
    """The error that an event without a choice tells of, in every dress; None if it says of none."""
    if (error := value.get("error")) or (error := value.get("errors")):
        return error
    groq, said = value.get("x_groq"), value.get("base_resp")
    if isinstance(groq, dict) and groq.get("error"):
        return groq["error"]
    if isinstance(said, dict) and said.get("status_code") not in (None, 0):  # MiniMax
        return said
    if value.get("choices"):
        return None
    kinds = (value.get("object"), value.get("type"), value.get("status"))
    if any(isinstance(kind, str) and "error" in kind.lower() for kind in kinds):
        return value
    code = whole(value.get("code") or value.get("status") or value.get("status_code") or value.get("statusCode"))
    if code is not None and code >= 400 and any(value.get(key) for key in ("message", "detail", "msg")):
        return value
    if value.get("detail") and "usage" not in value:  # FastAPI
        return value
    return {} if "error" in value and value["error"] is not None and "usage" not in value else None


def _raw(error: object) -> msgspec.Raw:
    return NOTHING if error is None else msgspec.Raw(json.dumps(error).encode())


def _choice_of(value: object) -> Choice:
    if not isinstance(value, dict):
        raise Unreadable("a choice is not an object")
    reason = value.get("finish_reason")
    if isinstance(reason, dict):  # SGLang's own
        reason = reason.get("type")
    native = value.get("native_finish_reason")
    return Choice(
        index=whole(value.get("index")),
        delta=_content_of(value.get("delta")),
        message=_content_of(value.get("message")),
        text=words_of(value.get("text")),
        finish_reason=str(reason) if reason else None,
        native_finish_reason=native if isinstance(native, str) else None,
        error=_raw(value.get("error") or None),
        usage=usage_of(value.get("usage")),
    )


def _content_of(value: object) -> Content | None:
    if not value:
        return None
    if not isinstance(value, dict):
        return Content(content=words_of(value))
    content = value.get("content")
    thoughts = _thoughts_in(content)
    return Content(
        content=words_of(content),
        reasoning_content=loosely(value.get("reasoning_content")) or thoughts,
        reasoning=loosely(value.get("reasoning")),
        refusal=words_of(value.get("refusal")),
        tool_calls=_calls_of(value.get("tool_calls")),
    )


def words_of(value: object) -> str | None:
    """Text of an answer: a string, or parts of which each may be one."""
    match value:
        case str():
            return value
        case None | False:
            return None
        case list():
            return "".join(words_of(part) or "" for part in value)
        case dict() if value.get("type") in ("thinking", "reasoning", "redacted_thinking"):
            return None
        case dict():
            return next((words_of(value[key]) for key in _TEXT_KEYS if value.get(key)), None)
        case _:
            raise Unreadable(f"content is a {type(value).__name__}, not text")


def _thoughts_in(value: object) -> str | None:
    """Thoughts among the parts of a content, as Mistral and Anthropic send them."""
    if not isinstance(value, list):
        return None
    parts = (part.get("thinking") or part.get("text") for part in value if _is_thought(part))
    return "".join(loosely(part) or "" for part in parts) or None


def _is_thought(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")


def loosely(value: object) -> str | None:
    """Text that is not needed: what can't be read is left out."""
    try:
        return words_of(value)
    except Unreadable:
        return None


def _calls_of(value: object) -> list[RawCall] | None:
    if not value:
        return None
    calls = value if isinstance(value, list) else [value]
    return [_call_of(call) for call in calls]


def _call_of(value: object) -> RawCall:
    if not isinstance(value, dict):
        raise Unreadable("a call of a tool is not an object")
    function = value.get("function")
    inner: dict[object, object] = function if isinstance(function, dict) else value
    name, arguments, id = inner.get("name"), inner.get("arguments"), value.get("id")
    if arguments is not None and not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return RawCall(
        index=whole(value.get("index")),
        id=str(id) if id is not None else None,
        function=RawFunction(name=name if isinstance(name, str) else None, arguments=arguments),
    )


def usage_of(value: object) -> RawUsage | None:
    """A usage whose numbers may be of any type."""
    if not isinstance(value, dict):
        return None
    found = RawUsage()
    for name in RawUsage.__struct_fields__:
        if name in ("prompt_tokens_details", "input_tokens_details"):
            details = value.get(name)
            if isinstance(details, dict):
                setattr(found, name, PromptDetails(cached_tokens=whole(details.get("cached_tokens"))))
        else:
            setattr(found, name, whole(value.get(name)))
    return found


def _is_utf8(event: bytes) -> bool:
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True


def _holds_surrogates(chunk: Chunk) -> bool:
    """Whether words of an answer, or a call, hold what was no UTF-8."""
    return any("\udc80" <= c <= "\udcff" for choice in chunk.choices or () for text in _needed(choice) for c in text)


def _needed(choice: Choice) -> Iterator[str]:
    yield choice.text or ""
    for content in (choice.delta, choice.message):
        if content is not None:
            yield content.content or ""
            yield content.refusal or ""
            for call in content.tool_calls or ():
                if call.function is not None:
                    yield (call.function.name or "") + (call.function.arguments or "")


def whole(value: object) -> int | None:
    """A number as a count: a float is rounded, a string read; None if it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float) and math.isfinite(value):
        return round(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
