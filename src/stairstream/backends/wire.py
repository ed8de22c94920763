"""The bytes of a chat completion, streamed or whole, read into pieces of text with their token counts."""

from typing import NamedTuple

import msgspec

from stairstream.backends.tool_calls import CallFinder, RawCall
from stairstream.core.session import Delta, ToolDelta
from stairstream.core.sse import SseDecoder
from stairstream.core.thinking import ThoughtFinder
from stairstream.core.tokens import estimate_delta


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    prompt_cache_hit_tokens: int | None = None


class _Timings(msgspec.Struct):
    cache_n: int | None = None


class _Content(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[RawCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Content | None = None
    message: _Content | None = None
    finish_reason: str | None = None


class _Problem(msgspec.Struct):
    message: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: _Problem | str | None = None


class Piece(NamedTuple):
    """Text of one event with the number of its tokens, at least 1."""

    text: str
    num_tokens: int


_decode = msgspec.json.Decoder(_Chunk).decode


class AnswerReader:
    """Reads one answer's bytes; what it has learned so far is in its attributes.

    Tokens are counted from continuous usage where the server gives it (`is_exact`), else estimated per event.
    Thinking is no text of the answer: it gathers in `thoughts`; with `finds_thoughts` also what stands between <think>
    tags at the answer's start. Calls of tools gather in `calls`, piece by piece. After `error` (the server's own) or
    `broken` (something that is no chunk) nothing more is read.
    """

    __slots__ = (
        "_call_finder",
        "_finder",
        "_handed_tokens",
        "_has_choices",
        "_held_tokens",
        "_sse",
        "broken",
        "cached_tokens",
        "calls",
        "completion_tokens",
        "error",
        "finish_reason",
        "is_done",
        "is_exact",
        "prompt_tokens",
        "thinks_inline",
        "thoughts",
    )

    def __init__(self, *, finds_thoughts: bool = False) -> None:
        self._sse = SseDecoder()
        self._finder = ThoughtFinder() if finds_thoughts else None
        self._handed_tokens = self._held_tokens = 0
        self._has_choices = self.thinks_inline = False
        self._call_finder: CallFinder | None = None
        self.thoughts: list[Piece] = []
        self.calls: list[ToolDelta] = []
        self.finish_reason: str | None = None
        self.is_done = False
        self.is_exact = False
        self.error: str | None = None
        self.broken: str | None = None
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.completion_tokens: int | None = None

    def take_thoughts(self) -> Delta | None:
        """The thoughts that have gathered."""
        if not self.thoughts:
            return None
        thoughts, self.thoughts = self.thoughts, []
        text, count = "".join(piece.text for piece in thoughts), sum(piece.num_tokens for piece in thoughts)
        return Delta(text, count, is_estimate=not self.is_exact, is_thinking=True)

    @property
    def call_tokens(self) -> int:
        """Tokens of calls of tools so far, an estimate; 0 as long as there are none."""
        return self._call_finder.num_tokens if self._call_finder else 0

    def take_calls(self) -> list[ToolDelta]:
        """The pieces of calls that have gathered."""
        calls, self.calls = self.calls, []
        return calls

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces of text that these bytes of an event stream complete."""
        return self._read(self._sse.feed(data))

    def finish(self) -> list[Piece]:
        """What the end of the stream completes; a broken rest is only a stream that was cut."""
        pieces = self._read(self._sse.finish())
        self._release(pieces)
        self.broken = None
        return pieces

    def feed_whole(self, body: bytes) -> list[Piece]:
        """The text of an answer that came as one JSON body, by a server that does not stream."""
        pieces = self._read([body])
        self._release(pieces)
        self.is_done = True
        if not (self._has_choices or self.error or self.broken):
            self.broken = "it has no choices"
        return pieces

    def _read(self, events: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if event == b"[DONE]":
                self._release(pieces)
                self.is_done = True
                break
            try:
                chunk = _decode(event)
            except msgspec.DecodeError as exc:
                self.broken = str(exc)
                break
            if chunk.error is not None:
                self.error = (chunk.error if isinstance(chunk.error, str) else chunk.error.message) or "an error"
                break
            if chunk.usage is not None:
                self._learn(chunk.usage)
            if chunk.choices:
                self._has_choices = True
                self._read_choice(chunk.choices[0], chunk.usage, pieces)
            if chunk.timings is not None and chunk.timings.cache_n is not None:
                self.cached_tokens = chunk.timings.cache_n
        return pieces

    def _read_choice(self, choice: _Choice, usage: _Usage | None, pieces: list[Piece]) -> None:
        content = choice.delta or choice.message
        if content is not None:
            if thought := content.reasoning_content or content.reasoning:
                self.thoughts.append(Piece(thought, self._count(thought, usage if not content.content else None)))
            if content.content:
                piece = Piece(content.content, self._count(content.content, usage))
                if self._finder is None:
                    pieces.append(piece)
                else:
                    self._sort(piece, self._finder, pieces)
            if content.tool_calls:
                self._call_finder = self._call_finder or CallFinder()
                self.calls += self._call_finder.take(content.tool_calls)
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason

    def _sort(self, piece: Piece, finder: ThoughtFinder, pieces: list[Piece]) -> None:
        """Thoughts to the thoughts, words to the pieces; tokens of what is held back go with what comes out next."""
        self._held_tokens += piece.num_tokens
        self._hand_out(*finder.feed(piece.text), pieces)
        self.thinks_inline = finder.has_found
        if finder.is_settled:
            self._finder = None

    def _release(self, pieces: list[Piece]) -> None:
        """What was held back when the stream ended."""
        if self._finder is not None:
            self._hand_out(*self._finder.finish(), pieces)
            self._finder = None

    def _hand_out(self, thought: str, words: str, pieces: list[Piece]) -> None:
        if not thought and not words:
            return
        tokens, self._held_tokens = max(1, self._held_tokens), 0
        of_thought = round(tokens * len(thought) / (len(thought) + len(words)))
        if thought:
            of_thought = max(1, of_thought)
            self.thoughts.append(Piece(thought, of_thought))
        if words:
            pieces.append(Piece(words, max(1, tokens - of_thought)))

    def _learn(self, usage: _Usage) -> None:
        if usage.prompt_tokens is not None:
            self.prompt_tokens = usage.prompt_tokens
        if usage.completion_tokens is not None:
            self.completion_tokens = usage.completion_tokens
        if usage.prompt_tokens_details is not None and usage.prompt_tokens_details.cached_tokens is not None:
            self.cached_tokens = usage.prompt_tokens_details.cached_tokens
        elif usage.prompt_cache_hit_tokens is not None:
            self.cached_tokens = usage.prompt_cache_hit_tokens

    def _count(self, text: str, usage: _Usage | None) -> int:
        """Tokens of one event's text; events without text leave theirs to the next."""
        total = usage.completion_tokens if usage is not None else None
        if total is not None and total > self._handed_tokens:
            count, self.is_exact = total - self._handed_tokens, True
        else:
            count, self.is_exact = estimate_delta(text), False
        self._handed_tokens += count
        return count
