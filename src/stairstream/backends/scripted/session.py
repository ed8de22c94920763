"""A session on a script: each of its words at its instant."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stairstream.backends.base import Session
from stairstream.backends.scripted.faults import Fault, error_of, raise_at_start
from stairstream.backends.scripted.speech import Speech
from stairstream.backends.scripted.words import count_cached, next_word, words_of
from stairstream.core.context import Context
from stairstream.core.prompts import Prompt, render, settle
from stairstream.core.session import Began, Chunk, Delta, Ended, EndReason, Layout, Usage, WriteItem
from stairstream.core.stops import StopFinder
from stairstream.core.tokens import estimate_tokens

_SHORT = 20

if TYPE_CHECKING:
    from stairstream.backends.scripted.backend import ScriptedBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The request that a scripted backend was sent by one write."""

    agent: str
    at_s: float
    prompt: Prompt
    prompt_tokens: int
    limit: int


class ScriptedSession(Session):
    """A session on a script."""

    def __init__(self, backend: "ScriptedBackend", context: Context) -> None:
        self._backend = backend
        self._context = context
        has_result = bool(context.conversation) and context.conversation[-1].role == "tool"
        may_call = context.agent.extras.tools is not None and not has_result
        self._calls = backend.script.tool_calls if may_call else ()
        self._words = backend.script.before_calls if self._calls else backend.script.words
        self._next_word = next_word(self._words, context.written)
        self._seen: list[list[str]] = []
        self._prefetched = Usage(cached_tokens=0)
        self._is_stopped = False
        self._alarm: asyncio.Future[None] | None = None
        self._is_closed = False

    @property
    def prefetches(self) -> bool:
        """As its script says."""
        return self._backend.script.prefetches

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; their prefill is paid by the next write."""
        self._context.read(chunks)

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """Make one call for one token, which is dropped."""
        script, ahead = self._backend.script, self._context.ahead(chunks)
        call = self._record_call(ahead, settle(self._context.agent.layout or "grouped", ahead), 1)
        cached = self._count_cached(call.prompt) or 0
        await asyncio.sleep(script.first_due_s(0, call.prompt_tokens, cached))
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
        layout = settle(self._context.agent.layout or "grouped", self._context)
        script, number = self._backend.script, len(self._backend.calls)
        call = self._record_call(self._context, layout, limit)
        cached = self._count_cached(call.prompt)
        if script.ignores_prefill and layout != "quoted":
            self._next_word = 0
        first_word = self._next_word
        speech = self._prepare(number, script.first_due_s(call.at_s, call.prompt_tokens, cached), limit)
        stop = self._context.agent.sampling.stop
        stops = StopFinder(stop, self._context.own) if stop else None
        has_called, count, untold = False, 0, 0
        self._backend.num_writing += 1
        try:
            yield Began(layout=layout, why="a script takes any", prompt_tokens=call.prompt_tokens, is_estimate=False)
            raise_at_start(self._backend.model, speech.fault)
            for due_s, step in speech.steps():
                await self._wait_until(due_s)
                if self._is_stopped:
                    break
                if isinstance(step, Fault):
                    raise error_of(self._backend.model, step)
                if step.kind == "thoughts":
                    yield self._delta("".join(step.words), len(step.tokens), is_thinking=True)
                    continue
                count, untold = step.end, untold + len(step.tokens)
                for piece in step.pieces:
                    has_called = True
                    yield piece
                if not step.words:
                    continue
                self._next_word += len(step.words)
                text = "".join(step.words)
                self._context.wrote(text)
                yield self._delta(text, untold)
                untold = 0
                if stops is not None and stops.sees(text):
                    break
            usage = Usage(prompt_tokens=call.prompt_tokens, cached_tokens=cached, completion_tokens=count)
            yield self._end(speech, stops, usage, has_called=has_called)
        finally:
            self._backend.num_writing -= 1
            said = self._words[first_word : self._next_word]
            self._seen = [*self._seen[-1:], words_of(call.prompt) + [word.strip() for word in said]]

    def _prepare(self, number: int, first_s: float, limit: int) -> Speech:
        """The rest of the script. Thoughts don't count towards the limit, nor do calls where all words have room."""
        script = self._backend.script
        tokens = script.manner.spell(self._words[self._next_word :])
        room = None if len(tokens) <= limit else len(script.thoughts) + limit
        return Speech(script, number, first_s, tokens=tokens, thoughts=script.thoughts, calls=self._calls, room=room)

    def _end(self, speech: Speech, stops: StopFinder | None, usage: Usage, *, has_called: bool) -> Ended:
        """The reason why the write ends, and its usage with that of the prefetches before it."""
        found = stops.found if stops else None
        reason: EndReason = "stopped" if self._is_stopped else speech.reason
        if has_called:
            reason = "tool_calls"
        elif found is not None:
            reason = "stop_string"
        prefetched, self._prefetched = self._prefetched, Usage(cached_tokens=0)
        return Ended(reason=reason, usage=self._backend.script.manner.report(usage + prefetched), stop_string=found)

    def _delta(self, text: str, num_tokens: int, *, is_thinking: bool = False) -> Delta:
        """New text with its number of tokens, or with a poor estimate of it where that is not said."""
        if self._backend.script.manner.usage == "exact":
            return Delta(text, num_tokens, is_thinking=is_thinking)
        return Delta(text, _estimate_poorly(text), is_estimate=True, is_thinking=is_thinking)

    def stop(self) -> None:
        """End the write in flight now, even between two words."""
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
        return count_cached(self._seen, words_of(prompt))

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


def _wake(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)


def _estimate_poorly(text: str) -> int:
    """One token for each short delta, however many it had: the worst count that a client may have to live with."""
    return 1 if len(text) <= _SHORT else estimate_tokens(text)
