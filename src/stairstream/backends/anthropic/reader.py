"""The bytes of a message, streamed or whole, read into pieces of text: its events as the chunks that they would be.

What becomes of a chunk is decided in `wire`, for all protocols.
"""

import msgspec

from stairstream.backends.chunks import BULKY, CANNOT_DECODE, SMALL_BYTES, Choice, Chunk, Content, Unreadable, is_bulky
from stairstream.backends.counts import RawUsage
from stairstream.backends.odd_chunks import chunk_of, loosely, usage_of, whole, words_of
from stairstream.backends.sorting import Piece
from stairstream.backends.tool_calls import RawCall, RawFunction
from stairstream.backends.wire import AnswerReader

_TOOL = "tool_use"
_THOUGHTS = ("thinking", "redacted_thinking")

Value = dict[str, object]


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Event(msgspec.Struct):
    """As much of an event as most of them have."""

    type: str = ""
    delta: _Delta | None = None


_decode = msgspec.json.Decoder(_Event).decode


class MessageReader(AnswerReader):
    """Reads the answer of the Messages API; of blocks that are neither text, thoughts nor calls nothing is shown."""

    __slots__ = ("_blocks", "_is_silent_call", "_thinks", "_usage")

    def __init__(self, *, finds_thoughts: bool = False, withholds: bool = False, is_sure: bool = False) -> None:
        super().__init__(finds_thoughts=finds_thoughts, withholds=withholds, is_sure=is_sure)
        self._blocks: dict[int | None, str] = {}
        self._is_silent_call = False
        self._thinks = False
        self._usage = RawUsage()

    @property
    def hides_thoughts(self) -> bool:
        """Whether it has thought, seen or not."""
        return self._thinks or super().hides_thoughts

    def _read(self, events: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if self.is_over:
                break
            if len(event) > SMALL_BYTES and is_bulky(event):
                self._break(BULKY)
                break
            if (text := _text_in(event)) is None:
                self._read_oddly(event, pieces)
            elif text:
                self._has_choices = True
                self.text.take(text, None, pieces)
        return pieces

    def _chunk_of(self, value: object) -> Chunk | str | None:
        if not isinstance(value, dict):
            raise Unreadable(f"a JSON {type(value).__name__}, where an object should be")
        match value.get("type"):
            case "content_block_delta":
                return self._delta_of(value)
            case "content_block_start":
                return self._start_of(value)
            case "content_block_stop":
                return self._stop_of(value)
            case "message_start":
                self._learn(_dict(value.get("message")).get("usage"), is_start=True)
                return None
            case "message_delta":
                return self._end_of(_dict(value.get("delta")), value.get("usage"))
            case "message_stop":
                return "[DONE]"
            case "message":
                return self._message_of(value)
            case _:
                return chunk_of(value)  # a ping, or an error in whatever dress

    # Blocks

    def _start_of(self, event: Value) -> Chunk | None:
        block, index = _dict(event.get("content_block")), whole(event.get("index"))
        kind = self._blocks[index] = str(block.get("type"))
        self._thinks = self._thinks or kind in _THOUGHTS
        if kind != _TOOL:
            return _chunk(self._content_of(block))
        given = block.get("input")
        self._is_silent_call = not given
        return _chunk(Content(tool_calls=[_call(index, block, msgspec.json.encode(given).decode() if given else "")]))

    def _delta_of(self, event: Value) -> Chunk | None:
        delta, index = _dict(event.get("delta")), whole(event.get("index"))
        match delta.get("type"):
            case "input_json_delta":
                arguments = delta.get("partial_json")
                if not arguments or self._blocks.get(index, _TOOL) != _TOOL:
                    return None
                self._is_silent_call = False
                return _chunk(Content(tool_calls=[_call(index, {}, str(arguments))]))
            case "text_delta" | "thinking_delta" as kind:
                return _chunk(self._content_of({**delta, "type": kind.removesuffix("_delta")}))
            case _:  # a signature, a citation
                return None

    def _stop_of(self, event: Value) -> Chunk | None:
        """A call that had no arguments calls with none."""
        index = whole(event.get("index"))
        if not self._is_silent_call or self._blocks.get(index) != _TOOL:
            return None
        self._is_silent_call = False
        return _chunk(Content(tool_calls=[_call(index, {}, "{}")]))

    def _content_of(self, block: Value) -> Content | None:
        """The text or the thoughts of a block, or of a piece of one."""
        if block.get("type") == "text" and (words := words_of(block.get("text"))):
            return Content(content=words)
        if block.get("type") == "thinking" and (thought := loosely(block.get("thinking"))):
            return Content(reasoning_content=thought)
        return None

    # The message

    def _message_of(self, message: Value) -> Chunk:
        """A whole message: one chunk of a chat completion that has it all."""
        said = message.get("content")
        blocks = said if isinstance(said, list) else [{"type": "text", "text": said}]
        texts, thoughts, calls = "", "", list[RawCall]()
        for number, block in enumerate(map(_dict, blocks)):
            self._thinks = self._thinks or block.get("type") in _THOUGHTS
            if block.get("type") == _TOOL:
                calls.append(_call(number, block, msgspec.json.encode(block.get("input") or {}).decode()))
            elif content := self._content_of(block):
                texts += content.content or ""
                thoughts += content.reasoning_content or ""
        end = self._end_of(message, message.get("usage"))
        assert end.choices is not None
        content = Content(content=texts or None, reasoning_content=thoughts or None, tool_calls=calls or None)
        end.choices[0].message = content
        return end

    def _end_of(self, delta: Value, usage: object) -> Chunk:
        self._learn(usage, is_start=False)
        reason = delta.get("stop_reason")
        if reason == "refusal":
            said = _dict(delta.get("stop_details"))
            why = said.get("explanation") or said.get("category")
            self.oddities.append(f"the model refuses to answer{f': {why}' if why else ''}")
        return Chunk(choices=[Choice(index=0, finish_reason=str(reason) if reason else None)])

    def _learn(self, said: object, *, is_start: bool) -> None:
        """Take the counts of a usage. Later ones may leave out what was said; that of the start has no answer yet."""
        usage = usage_of(said)
        if usage is None:
            return
        if is_start:
            usage.output_tokens = None
        for name in RawUsage.__struct_fields__:
            if (count := getattr(usage, name)) is not None:
                setattr(self._usage, name, count)
        known = self._usage
        if not (known.input_tokens or known.cache_read_input_tokens or known.cache_creation_input_tokens):
            known = msgspec.structs.replace(known, input_tokens=None)  # no prompt is empty: it is not counted yet
        self._counted.learn(known)


def _text_in(event: bytes) -> str | None:
    """The text of an event that is a piece of text, as most are; None for any other."""
    try:
        found = _decode(event)
    except CANNOT_DECODE:
        return None
    delta = found.delta
    if delta is None or delta.type != "text_delta" or found.type != "content_block_delta":
        return None
    return delta.text


def _chunk(content: Content | None) -> Chunk | None:
    return Chunk(choices=[Choice(index=0, delta=content)]) if content is not None else None


def _call(index: int | None, block: Value, arguments: str) -> RawCall:
    """A call, or a piece of one: then without a name."""
    name, id = block.get("name"), block.get("id")
    function = RawFunction(name=name if isinstance(name, str) else None, arguments=arguments)
    return RawCall(index=index, id=str(id) if id is not None else None, function=function)


def _dict(value: object) -> Value:
    return value if isinstance(value, dict) else {}
