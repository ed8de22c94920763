"""The bytes of a chat completion, streamed or whole, read into pieces of text with their token counts.

Liberal in what is read, strict in what is believed: what the fast decoder does not take is looked at in `odd_chunks`.
"""

import msgspec

from stairstream.backends.chunks import (
    BULKY,
    CANNOT_DECODE,
    SMALL_BYTES,
    Choice,
    Chunk,
    Content,
    Unreadable,
    decode_strictly,
    is_bulky,
)
from stairstream.backends.counts import Counted, RawUsage
from stairstream.backends.finish_reasons import end_of, worse_of
from stairstream.backends.odd_chunks import chunk_of, read_oddly
from stairstream.backends.problems import Problem, read_problem
from stairstream.backends.sorting import Piece as Piece
from stairstream.backends.sorting import Sorter
from stairstream.backends.tool_calls import CallFinder
from stairstream.backends.whole import Body, Messages
from stairstream.core.session import Delta, ToolDelta
from stairstream.core.sse import MAX_EVENT_BYTES, ErrorData, SseDecoder
from stairstream.core.surrogates import scrub

_NO_ERRORS = (b'""', b"{}", b"[]", b"false", b"0")
_TROUBLE_WORDS = (b"error", b"Error", b"code", b"status", b"detail")
_MOST_BESIDE = 8 * 1024 * 1024
"""Characters of thoughts and of calls: words are limited by who asked for them."""


class AnswerReader:
    """Reads one answer's bytes; what it has learned so far is in its attributes.

    Whether they are events or one JSON body is seen from their beginning, whatever the Content-Type. Thinking is no
    text of the answer: it gathers in `thoughts`. Calls of tools gather in `calls`, piece by piece. `finish_reason` is
    one of OpenAI's four words or `full`, or `cut` what the endpoint called an end that is none. Once an end is said
    (`has_ended`) nothing can undo it; before, after a `problem` (the server's own) or `broken` (something that is no
    chunk) nothing more is read. `oddities` are what readers of the result should know.
    """

    __slots__ = (
        "_beside",
        "_body",
        "_call_finder",
        "_counted",
        "_has_choices",
        "_messages",
        "_sse",
        "broken",
        "calls",
        "cut",
        "finish_reason",
        "has_ended",
        "is_done",
        "is_over",
        "oddities",
        "problem",
        "text",
    )

    def __init__(self, *, finds_thoughts: bool = False, withholds: bool = False, is_sure: bool = False) -> None:
        """As for `Sorter`."""
        self.text = Sorter(finds_thoughts=finds_thoughts, withholds=withholds, is_sure=is_sure)
        self._sse = SseDecoder()
        self._body = Body()
        self._messages = Messages()
        self._counted = Counted()
        self._beside = 0
        self._has_choices = False
        self._call_finder: CallFinder | None = None
        self.calls: list[ToolDelta] = []
        self.finish_reason: str | None = None
        self.cut: str | None = None
        self.has_ended = False
        self.is_done = self.is_over = False
        self.problem: Problem | None = None
        self.broken: str | None = None
        self.oddities: list[str] = []

    @property
    def thoughts(self) -> list[Piece]:
        """The thoughts that have gathered."""
        return self.text.thoughts

    def take_thoughts(self) -> Delta | None:
        """The thoughts that have gathered, once."""
        return self.text.take_thoughts()

    @property
    def prompt_tokens(self) -> int | None:
        """The endpoint's count of the prompt."""
        return self._counted.prompt_tokens

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that were cached; never more than it has, and unknown like its size."""
        return self._counted.cached_tokens

    @property
    def completion_tokens(self) -> int | None:
        """The endpoint's count of the answer, thoughts included."""
        return self._counted.completion_tokens

    @property
    def is_waiting(self) -> bool:
        """Whether silence would mean something: an end was said, a body has no end of its own, a tag may come."""
        return self.has_ended or self._body.is_whole or bool(self.text.withheld)

    @property
    def is_off(self) -> bool:
        """Whether what came last is not to be read on."""
        return self.problem is not None or self.broken is not None

    @property
    def is_exact(self) -> bool:
        """Whether the last count was the endpoint's own."""
        return self.text.is_exact

    @property
    def thinks_inline(self) -> bool:
        """Whether its thoughts stood between tags of its own."""
        return self.text.thinks_inline

    @property
    def hides_thoughts(self) -> bool:
        """Whether the endpoint counts many more tokens than its words can have."""
        return self.text.is_too_short_for(self.completion_tokens)

    @property
    def call_tokens(self) -> int:
        """Tokens of calls of tools so far, an estimate; 0 as long as there are none."""
        return self._call_finder.num_tokens if self._call_finder else 0

    @property
    def is_whole(self) -> bool:
        """Whether it comes as one body."""
        return self._body.is_whole

    def take_calls(self) -> list[ToolDelta]:
        """The pieces of calls that have gathered."""
        calls, self.calls = self.calls, []
        return calls

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces of text that these bytes complete."""
        if not self._body.is_known and (problem := self._body.find_form(data)):
            self._break(problem)
        if self._body.is_whole:
            if problem := self._body.keep(data):
                self._break(problem)
            return []
        pieces = self._read(self._sse.feed(data))
        if self._sse.is_too_long:
            self._break(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return pieces

    def finish(self) -> list[Piece]:
        """The chunks that the end of the stream completes; a broken rest is only a stream that was cut."""
        if self._body.is_whole:
            return self._read_body()
        was_broken = self.broken
        pieces = self._read(self._sse.finish())
        self.broken = was_broken
        self._release(pieces)
        return pieces

    def let_go(self) -> list[Piece]:
        """The withheld text, as words."""
        pieces: list[Piece] = []
        self.text.let_go(pieces)
        return pieces

    def flush(self) -> list[Piece]:
        """The text that was held back, as nothing more is read."""
        pieces: list[Piece] = []
        self._release(pieces)
        return pieces

    def feed_whole(self, body: bytes) -> list[Piece]:
        """The text of an answer to a request that did not ask for a stream."""
        pieces = self.feed(body) + self.finish()
        self.is_done = True
        if not (self._has_choices or self.problem or self.broken):
            self._break("it has no choices")
        return pieces

    def try_whole(self) -> list[Piece]:
        """The text of a body whose end is not announced: once it is JSON, it is whole."""
        try:
            msgspec.json.decode(self._body.data, type=msgspec.Raw)
        except CANNOT_DECODE:
            return []
        return self._read_body()

    # Events and bodies

    def _read_body(self) -> list[Piece]:
        pieces = self._read([self._body.take()])
        self._release(pieces)
        # a message is whole; deltas, one on each line, must have said their end
        self.is_done = self.has_ended or self._messages.has_come or not self._has_choices
        if not (self._has_choices or self.problem or self.broken):
            self._break("it has no choices")
        return pieces

    def _read(self, events: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if self.is_over:
                break
            if len(event) > SMALL_BYTES and is_bulky(event):
                self._break(BULKY)
                break
            try:
                chunk = decode_strictly(event)
            except CANNOT_DECODE:
                self._read_oddly(event, pieces)
                continue
            if chunk.choices:
                choice = chunk.choices[0]
                if len(chunk.choices) > 1 or choice.index or chunk.error or choice.error or chunk.timings is not None:
                    self._take(chunk, pieces, is_odd=False)
                    continue
                if chunk.usage is not None:
                    self._counted.learn(chunk.usage)
                self._read_choice(choice, chunk.usage, pieces, False)
            elif chunk.usage is not None and not chunk.error:
                self._counted.learn(chunk.usage)
                # OpenAI's last event; an odd server may send its usage before
                if self.has_ended:
                    self._end(pieces)
            elif isinstance(event, ErrorData) or any(word in event for word in _TROUBLE_WORDS):
                self._read_oddly(event, pieces)
        return pieces

    def _read_oddly(self, event: bytes, pieces: list[Piece]) -> None:
        if event == b"[DONE]":
            self._end(pieces)
            return
        if isinstance(event, ErrorData):
            self._fail(read_problem(event))
            return
        try:
            chunks = read_oddly(event, self._chunk_of)
        except Unreadable as exc:
            self._break(str(exc))
            return
        for chunk in chunks:
            if isinstance(chunk, str):
                self._end(pieces)
            else:
                self._take(chunk, pieces, is_odd=True)

    def _chunk_of(self, value: object) -> Chunk | str | None:
        """The meaning of a decoded event; another protocol has another."""
        return chunk_of(value)

    def _end(self, pieces: list[Piece]) -> None:
        """Nothing more will come that anybody needs."""
        self._release(pieces)
        self.is_done = self.is_over = True

    def _take(self, chunk: Chunk, pieces: list[Piece], *, is_odd: bool) -> None:
        had_ended, usage, error = self.has_ended, chunk.usage, chunk.error
        if usage is not None:
            self._counted.learn(usage)
        for choice in chunk.choices or ():
            if not choice.index:  # another would be an answer that was not asked for
                self._read_choice(choice, usage, pieces, is_odd)
                error = error or choice.error
        if chunk.timings is not None:
            self._counted.learn_cached(chunk.timings.cache_n)
        if error and not _is_nothing(bytes(error), is_alone=not chunk.choices):
            self._fail(read_problem(bytes(error)), had_ended=had_ended)

    def _read_choice(self, choice: Choice, usage: RawUsage | None, pieces: list[Piece], is_odd: bool) -> None:
        self._has_choices = True
        content = choice.delta
        if choice.message is not None:
            content = self._messages.take(
                choice.message,
                choice.delta,
                has_deltas=self.text.has_said,
                has_calls=self._call_finder is not None,
            )
        if choice.usage is not None:  # Moonshot's
            usage = choice.usage
            self._counted.learn(usage)
        total = usage.completion_tokens if usage is not None else None
        if content is None:
            if choice.text:
                self._write(choice.text, total, pieces, is_odd)
        else:
            text = content.content
            if content.reasoning_content or content.reasoning or content.refusal:
                self._read_more(content, total, pieces)
            if text and not is_odd and not choice.finish_reason:
                self.text.take(text, total, pieces)
            elif text and not (choice.finish_reason and self.text.repeats(text)):
                self._write(text, total, pieces, is_odd)
            if content.tool_calls:
                self._call(content, pieces)
        if choice.finish_reason:
            self._see_end(choice.finish_reason, choice.native_finish_reason)

    def _read_more(self, content: Content, total: int | None, pieces: list[Piece]) -> None:
        """The fields that only some models send."""
        if thought := content.reasoning_content or content.reasoning:
            self._think(thought, total if not content.content else None, pieces)
        if content.refusal:
            self._refuse(content.refusal, total, pieces)

    def _write(self, text: str, total: int | None, pieces: list[Piece], is_odd: bool) -> None:
        if is_odd:
            self.text.take_odd(text, total, pieces)
        else:
            self.text.take(text, total, pieces)

    def _think(self, thought: str, total: int | None, pieces: list[Piece]) -> None:
        self.text.think(scrub(thought), total, pieces)
        self._add_beside(len(thought))

    def _refuse(self, text: str, total: int | None, pieces: list[Piece]) -> None:
        """A refusal is the answer's text, said as such."""
        self.text.let_go(pieces)
        self.text.take_odd(text, total, pieces)
        note = "the model refuses to answer: its text is the refusal"
        if note not in self.oddities:
            self.oddities.append(note)

    def _call(self, content: Content, pieces: list[Piece]) -> None:
        self.text.let_go(pieces)
        self._call_finder = self._call_finder or CallFinder()
        found = self._call_finder.take(content.tool_calls or ())
        self.calls += found
        self._add_beside(sum(len(call.arguments) for call in found))

    def _add_beside(self, length: int) -> None:
        self._beside += length
        if self._beside > _MOST_BESIDE:
            self._break("thoughts and calls without an end")

    # Ends, failures, counts

    def _see_end(self, said: str, native: str | None) -> None:
        end = end_of(said)
        if end is None:
            return
        has_said = self.text.has_said or self._call_finder is not None
        end = worse_of(end, end_of(native) if native else None)
        self.has_ended = True
        if end == "broken" or (end == "unknown" and not has_said):
            self.cut = native if native and end_of(said) != "broken" and end == "broken" else said
        elif end == "unknown":
            self.oddities.append(f"finish_reason {said!r} is not known: taken as the answer's own end")
            self.finish_reason = "stop"
        else:
            self.finish_reason = end

    def _fail(self, problem: Problem, *, had_ended: bool | None = None) -> None:
        self.is_over = True
        if self.has_ended if had_ended is None else had_ended:
            self.is_done = True
            self.oddities.append(f"an error after the answer's end: {problem.message or 'an error'}")
        else:
            self.problem = problem

    def _break(self, why: str) -> None:
        self.is_over = True
        if self.has_ended:
            self.is_done = True
        else:
            self.broken = why

    def _release(self, pieces: list[Piece]) -> None:
        """The text that was held back when the answer ended."""
        self.text.finish(pieces, is_cut=self.finish_reason in ("length", "full"))
        if self._call_finder is not None:
            self.calls += self._call_finder.finish()
            if self._call_finder.is_nameless:
                self.broken, self.is_over = "a call of a tool without a name", True


def _is_nothing(error: bytes, *, is_alone: bool) -> bool:
    """Whether an error says that there is none; an empty one says so only beside a choice."""
    return error == b"null" or (error in _NO_ERRORS and not is_alone)
