"""A backend that says given words at given times, and fails on demand: for tests, the simulator and the fake server.

Times are exact: every token has its instant, computed from the start of its call, on the running loop's clock.
"""

import asyncio
import math
from bisect import bisect_left
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Literal

from stairstream.core.context import Context
from stairstream.core.errors import (
    ConnectionFailed,
    MalformedAnswer,
    NotAuthorized,
    RateLimited,
    ServerFailed,
    StreamCut,
)
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, ToolCall
from stairstream.core.prompts import Prompt, render
from stairstream.core.session import Began, Chunk, Delta, Ended, EndReason, Layout, Takes, ToolDelta, Usage, WriteItem
from stairstream.core.stops import StopFinder

FaultKind = Literal[
    "status_401",
    "status_429",
    "status_500",
    "html",
    "reset",
    "hang",
    "cut",
    "cut_in_character",
    "malformed",
    "error_event",
    "empty",
    "length_at_once",
    "no_done",
]
"""What goes wrong. `status_401`, `status_429`, `status_500`, `html` (a web page) and `reset` (no answer at all) fail
the call at its start. `hang`, `cut`, `cut_in_character`, `malformed` and `error_event` come instead of the token after
`after_tokens` of the call: silence for ever, a lost connection, one that is lost inside the bytes of a character, a
chunk that is not one, an error as an event. `empty` ends without a word, `length_at_once` too, and says `length`.
`no_done` says all its words, then stops without saying that it has ended."""

_CALL_CHARACTERS = 4
"""What one token of a call's arguments spells."""

SILENT_FAULTS: tuple[FaultKind, ...] = ("empty", "length_at_once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong in the first `calls` calls of a backend; None: in all of them. With `every` 2 only
    every second of those fails, the first included: a place that flaps up and down."""

    kind: FaultKind
    after_tokens: int = 0
    retry_after_s: float | None = None
    calls: int | None = None
    every: int = 1

    def strikes(self, call: int) -> bool:
        """Whether the call of that number, from 0, goes wrong."""
        return (self.calls is None or call < self.calls) and call % self.every == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a model says and when: `words` are the texts of its tokens, spaces included.

    Token i (from 0) of a call comes `first_token_s + prompt_tokens / prefill_tokens_per_s + i * token_s` after the
    call's start. A prompt has as many tokens as it has words between white space, the answer so far included.
    `thoughts` come in front of the words of every call, at the same pace, and count neither towards its limit nor as
    words.
    With `caches_prefix` the words that a prompt shares with the beginning of the same session's context before it
    cost no prefill, and count as cached; without it the cached count is unknown. With `prefetches` too, a session can
    have its next prompt computed beside a write, by a call for one token.
    Where a request has tools, and no result of theirs has just come, the answer is `before_calls` and then
    `tool_calls`, piece by piece as `pieces_of` cuts them.
    """

    words: Sequence[str]
    thoughts: Sequence[str] = ()
    first_token_s: float = 0.0
    token_s: float = 0.0
    prefill_tokens_per_s: float = math.inf
    caches_prefix: bool = False
    prefetches: bool = False
    fault: Fault | None = None
    tool_calls: Sequence[ToolCall] = ()
    before_calls: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a scripted backend was sent by one write."""

    agent: str
    at_s: float
    prompt: Prompt
    prompt_tokens: int
    limit: int


def numbered_words(prefix: str, count: int) -> tuple[str, ...]:
    """Tokens `w1`, ` w2`, ... for the prefix `w`: their joined text is easy to check."""
    return tuple(f"{' ' if i > 1 else ''}{prefix}{i}" for i in range(1, count + 1))


def words_of(prompt: Prompt) -> list[str]:
    """A prompt's tokens by the rule of scripts: what stands between white space."""
    return [word for message in prompt.messages for word in message.content.split()]


def pieces_of(calls: Sequence[ToolCall]) -> Iterator[ToolDelta]:
    """Calls as they stream: the name first, then the arguments, a few characters a token."""
    for index, call in enumerate(calls):
        yield ToolDelta(index=index, id=call.id, name=call.name)
        for start in range(0, len(call.arguments), _CALL_CHARACTERS):
            yield ToolDelta(index=index, arguments=call.arguments[start : start + _CALL_CHARACTERS])


def next_word(words: Sequence[str], written: str) -> int:
    """Where a script goes on after a text: behind the words that it begins with, or behind as many words as it
    has when it is not a script's own (an answer taken over from another model)."""
    ends = list(accumulate(map(len, words), initial=0))
    place = bisect_left(ends, len(written))
    if place == len(ends):
        return len(words) if written.startswith("".join(words)) else min(len(written.split()), len(words))
    is_own = ends[place] == len(written) and "".join(words[:place]) == written
    return place if is_own else min(len(written.split()), len(words))


class ScriptedBackend:
    """One scripted model. `calls` lists what it was sent; `num_writing` is the number of calls now under way."""

    def __init__(self, script: Script, model: str = "scripted", takes: Iterable[Takes] = ()) -> None:
        self.script = script
        self._takes = frozenset(takes)
        self.calls: list[Call] = []
        self.num_writing = 0
        self.num_sessions = 0
        self._model = model

    @property
    def model(self) -> str:
        """The name it was given."""
        return self._model

    @property
    def room(self) -> None:
        """There is always room."""

    @property
    def takes(self) -> frozenset[Takes]:
        """What it was said to take."""
        return self._takes

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "ScriptedSession":
        """A session that says the script's words from behind `written`."""
        self.num_sessions += 1
        return ScriptedSession(self, Context(agent=agent, conversation=conversation, written=written))

    async def aclose(self) -> None:
        """Nothing is shared."""


class ScriptedSession:
    """A session on a script."""

    def __init__(self, backend: ScriptedBackend, context: Context) -> None:
        self._backend = backend
        self._context = context
        has_result = bool(context.conversation) and context.conversation[-1].role == "tool"
        may_call = context.agent.extras.tools is not None and not has_result
        self._calls = backend.script.tool_calls if may_call else ()
        self._words = backend.script.before_calls if self._calls else backend.script.words
        self._next_word = next_word(self._words, context.written)
        self._seen: list[list[str]] = []
        self._prefetched = Usage(cached_tokens=0)
        self.prefetch = self._prefetch if backend.script.prefetches else None
        self._is_stopped = False
        self._alarm: asyncio.Future[None] | None = None
        self._is_closed = False

    async def warm(self) -> None:
        """Nothing to do early."""

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; their prefill is paid by the next write."""
        self._context.read(chunks)

    async def _prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """One call for one token, which nobody hears."""
        script = self._backend.script
        call = self._record_call(self._context.ahead(chunks), self._context.agent.layout or "grouped", 1)
        cached = self._count_cached(call.prompt) or 0
        await asyncio.sleep(script.first_token_s + (call.prompt_tokens - cached) / script.prefill_tokens_per_s)
        self._seen.append(words_of(call.prompt))
        self._prefetched += Usage(
            prompt_tokens=call.prompt_tokens,
            cached_tokens=cached,
            completion_tokens=1,
            early_tokens=call.prompt_tokens - cached,
        )
        return True

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """The script's next words, each at its instant; its last word ends the write as the model's own end."""
        self._is_stopped = False
        layout: Layout = self._context.agent.layout or "grouped"
        script, fault, call = self._backend.script, self._fault(), self._record_call(self._context, layout, limit)
        cached = self._count_cached(call.prompt)
        first_s = call.at_s + script.first_token_s + (call.prompt_tokens - (cached or 0)) / script.prefill_tokens_per_s
        remaining = () if fault and fault.kind in SILENT_FAULTS else self._words[self._next_word :]
        stop = self._context.agent.sampling.stop
        stops = StopFinder(stop, self._context.own) if stop else None
        is_at_stop, count = False, 0
        self._backend.num_writing += 1
        try:
            yield Began(layout=layout, why="a script takes any", prompt_tokens=call.prompt_tokens, is_estimate=False)
            self._raise_at_start(fault)
            if not remaining:
                await self._wait_until(first_s)
            for place, thought in enumerate(script.thoughts):
                await self._wait_until(first_s + place * script.token_s)
                if not self._is_stopped:
                    yield Delta(thought, is_thinking=True)
            first_s += len(script.thoughts) * script.token_s
            for word in remaining[:limit]:
                await self._wait_until(first_s + count * script.token_s)
                if fault and count == fault.after_tokens and fault.kind != "no_done":
                    await self._break_off(fault)
                if self._is_stopped:
                    break
                count += 1
                self._next_word += 1
                self._context.wrote(word)
                is_at_stop = stops is not None and stops.sees(word)
                yield Delta(word)
                if is_at_stop:
                    break
            is_over = (count == len(remaining) and not self._is_stopped) or is_at_stop
            has_called = False
            if is_over and not is_at_stop:
                for piece in pieces_of(self._calls):
                    await self._wait_until(first_s + count * script.token_s)
                    if fault and count == fault.after_tokens and fault.kind != "no_done":
                        await self._break_off(fault)
                    if self._is_stopped:
                        break
                    count, has_called = count + 1, True
                    yield piece
            if fault and (fault.kind == "no_done" or (is_over and count == fault.after_tokens)):
                await self._break_off(fault)
            reason: EndReason = "stopped" if self._is_stopped else "limit"
            if is_over:
                reason = "tool_calls" if has_called else "stop_string" if is_at_stop else "stop"
            if fault and fault.kind == "length_at_once":
                reason = "length"
            usage = Usage(prompt_tokens=call.prompt_tokens, cached_tokens=cached, completion_tokens=count)
            prefetched, self._prefetched = self._prefetched, Usage(cached_tokens=0)
            yield Ended(reason=reason, usage=usage + prefetched, stop_string=stops.found if stops else None)
        finally:
            self._backend.num_writing -= 1
            self._seen = [*self._seen[-1:], words_of(call.prompt) + [word.strip() for word in remaining[:count]]]

    def stop(self) -> None:
        """End the write under way now, even between two words."""
        self._is_stopped = True
        if self._alarm and not self._alarm.done():
            self._alarm.set_result(None)

    async def aclose(self) -> None:
        """Forget the session."""
        if not self._is_closed:
            self._is_closed = True
            self._backend.num_sessions -= 1
        self.stop()

    def _record_call(self, context: Context, layout: Layout, limit: int) -> Call:
        prompt = render(context, layout)
        at_s = asyncio.get_running_loop().time()
        call = Call(
            agent=context.agent.name, at_s=at_s, prompt=prompt, prompt_tokens=len(words_of(prompt)), limit=limit
        )
        self._backend.calls.append(call)
        return call

    def _count_cached(self, prompt: Prompt) -> int | None:
        if not self._backend.script.caches_prefix:
            return None
        words = words_of(prompt)
        return max((_count_shared(seen, words) for seen in self._seen), default=0)

    def _fault(self) -> Fault | None:
        fault = self._backend.script.fault
        return fault if fault and fault.strikes(len(self._backend.calls)) else None

    async def _wait_until(self, due_s: float) -> None:
        """Until an instant or stop(); with the instant gone by, others get a turn."""
        loop = asyncio.get_running_loop()
        if self._is_stopped:
            return
        if due_s <= loop.time():
            await asyncio.sleep(0)
            return
        self._alarm = loop.create_future()
        timer = None if due_s == math.inf else loop.call_at(due_s, _wake, self._alarm)
        try:
            await self._alarm
        finally:
            self._alarm = None
            if timer:
                timer.cancel()

    def _raise_at_start(self, fault: Fault | None) -> None:
        match fault:
            case Fault(kind="status_401"):
                raise NotAuthorized(f"{self._backend.model}: the script answers 401")
            case Fault(kind="status_500"):
                raise ServerFailed(f"{self._backend.model}: the script answers 500")
            case Fault(kind="status_429"):
                raise RateLimited(f"{self._backend.model}: the script answers 429", retry_after_s=fault.retry_after_s)
            case Fault(kind="html"):
                raise MalformedAnswer(f"{self._backend.model}: the script answers with a web page")
            case Fault(kind="reset"):
                raise ConnectionFailed(f"{self._backend.model}: the script closes the connection")
            case _:
                pass

    async def _break_off(self, fault: Fault) -> None:
        if self._is_stopped:
            return
        match fault.kind:
            case "hang":
                await self._wait_until(math.inf)
            case "cut" | "cut_in_character":
                raise StreamCut(f"{self._backend.model}: the script cuts the stream after {fault.after_tokens} tokens")
            case "malformed":
                raise MalformedAnswer(f"{self._backend.model}: the script sends a broken chunk")
            case "error_event":
                raise ServerFailed(f"{self._backend.model}: the script sends an error")
            case "no_done":
                raise StreamCut(f"{self._backend.model}: the script stops without saying that it has ended")
            case _:
                pass


def _count_shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _wake(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
