"""One agent's session in a slot of llama.cpp: its prompt is sent as token ids, so that only what is new is computed."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from stairstream.backends.base import Session
from stairstream.backends.forms import schema_of
from stairstream.backends.full import LEAST_ROOM_TOKENS, note_full, refuse_prompt
from stairstream.backends.layouts import CANNOT_INSERT
from stairstream.backends.llamacpp.prompt import PromptBuilder
from stairstream.backends.llamacpp.server import Completion, Event, LlamaServer, Timings
from stairstream.backends.openings import is_later_turn, key_of
from stairstream.backends.slots import Slots
from stairstream.backends.words import DeltaMaker, Ids, OwnWords
from stairstream.core.context import Context
from stairstream.core.errors import BackendError
from stairstream.core.prompts import settle
from stairstream.core.seams import QuoteSeam
from stairstream.core.session import (
    AskedLayout,
    Began,
    Chunk,
    Delta,
    Ended,
    EndReason,
    Layout,
    Note,
    Setting,
    Usage,
    WriteItem,
)
from stairstream.core.stops import StopFinder

SETTINGS: tuple[Setting, ...] = ("presence_penalty", "frequency_penalty", "top_k")
"""Settings of a request that llama.cpp knows, by the same names."""

_CHARACTER_TOKENS = 4
"""A character that is spelled in bytes takes up to this many tokens."""


@dataclass(slots=True)
class _Call:
    """The output of one completion so far."""

    limit: int
    num_seen: int = 0
    num_written: int = 0
    timings: Timings | None = None
    stop_type: str = ""
    stop_string: str | None = None

    def usage(self) -> Usage | None:
        if self.timings is None:
            return None
        cached = self.timings.cache_n
        return Usage(
            prompt_tokens=cached + self.timings.prompt_n, cached_tokens=cached, completion_tokens=self.num_written
        )


class LlamaCppSession(Session):
    """A session in one slot, which it keeps until it is closed."""

    def __init__(self, server: LlamaServer, slots: Slots, context: Context, own: OwnWords) -> None:
        self._server = server
        self._slots = slots
        self._use = f"{context.agent.name}\0{key_of(context.conversation)}"
        self._has_cache = is_later_turn(context.conversation) and slots.knows(self._use)
        self._slot: int | None = slots.take(self._use)
        self._context = context
        self._own = own
        self._prompts = PromptBuilder(server)
        self._asked, self._why = _choose_layout(context)
        self._schema = schema_of(context.agent.extras.response_format)
        self._unsaid = self._list_ignored()
        self._last: Ids = ()
        self._laid_out = self._layout
        self._is_fresh = True
        self._is_stopped = False
        self._writing: Completion | None = None
        self._warming: Completion | None = None

    @property
    def _layout(self) -> Layout:
        """The layout of the next prompt."""
        return settle(self._asked, self._context)

    async def warm(self) -> None:
        """Compute the part of the prompt that stands before every reference, if llama.cpp has nothing else to do.

        Beside writing proposers it would only delay their first tokens: measured on two cores, theirs come 0.3 s later
        and this session's own not sooner.
        """
        agent, conversation = self._context.agent, self._context.conversation
        try:
            head = await PromptBuilder(self._server).build_stable_head(agent, conversation, self._layout)
            is_useful = self._slots.is_idle and self._is_fresh and len(head) < self._server.context_tokens
            if not is_useful or self._slot is None:
                return
            self._warming = self._server.complete(self._body(head, 0))
            async with aclosing(self._server.stream(self._warming)) as events:
                async for _ in events:
                    pass
        except BackendError:
            return  # the first write will meet it again, and say so
        finally:
            self._warming = None

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; the next write computes what changed."""
        self._context.read(chunks)
        if any(chunk.text for chunk in chunks) or not self._own.by_turn():  # as in the prompts of `rounds`
            self._own.begin_turn()

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """Continue the answer; usage counts are llama.cpp's own."""
        self._is_stopped = False
        with self._slots.writing():
            prompt, note = await self._prepare(limit)
            yield Began(layout=self._laid_out, why=self._why, prompt_tokens=len(prompt), is_estimate=False)
            if note is not None:
                yield note
            unsaid, self._unsaid = self._unsaid, []
            for ignored in unsaid:
                yield ignored
            async with aclosing(self._answer(prompt, limit)) as items:
                async for item in items:
                    yield item

    def _list_ignored(self) -> list[Note]:
        """The wishes of the agent that can't be had, to be said at its first call."""
        ignored = []
        if self._context.agent.layout == "insert":
            ignored.append(CANNOT_INSERT)
        if self._schema is not None and self._context.written:
            # a grammar begins with the first word: it can't be entered in the middle
            text = "response_format: llama.cpp can't hold an answer to it that has begun"
            ignored.append(Note(kind="ignored", text=text))
        return ignored

    async def _answer(self, prompt: Ids, limit: int) -> AsyncGenerator[Delta | Ended, None]:
        usage = Usage(cached_tokens=0)
        room = self._server.context_tokens - len(prompt)
        call = _Call(limit=min(limit, room))
        while room > 0 and not self._is_stopped:
            async with aclosing(self._complete(prompt, call)) as deltas:
                async for delta in deltas:
                    yield delta
            usage += call.usage() or Usage(prompt_tokens=len(prompt), is_estimate=True)
            if call.num_written or call.stop_type != "limit" or call.limit >= room:
                break
            # the limit came inside the first character: once more, with room for a whole one
            call = _Call(limit=min(call.limit + _CHARACTER_TOKENS, room))
        yield Ended(reason=self._reason(call, limit), usage=usage, stop_string=call.stop_string)

    def _reason(self, call: _Call, limit: int) -> EndReason:
        if call.stop_type in ("eos", "word"):
            return "stop" if call.stop_type == "eos" else "stop_string"
        if self._is_stopped:
            return "stopped"
        return "limit" if call.limit >= limit else "length"

    async def _prepare(self, limit: int) -> tuple[Ids, Note | None]:
        """The ids to send: with everything that was read, or as they were if that does not fit any more."""
        prompt = await self._prompts.build(self._context, self._layout, self._own)
        room = self._server.context_tokens - len(prompt)
        if room >= min(limit, LEAST_ROOM_TOKENS) or len(prompt) <= len(self._last):
            self._last, self._laid_out = prompt, self._layout
            return prompt, None
        if not self._last:
            raise refuse_prompt(self._context.agent.name, len(prompt), self._server.context_tokens)
        return self._last, note_full(self._server.context_tokens)

    async def _complete(self, prompt: Ids, call: _Call) -> AsyncGenerator[Delta, None]:
        """One completion; what it brings is kept as written before it is given out."""
        context = self._context
        stops = StopFinder(context.agent.sampling.stop, context.own)
        maker = DeltaMaker(stops, QuoteSeam(context.written) if self._layout == "quoted" else None)
        self._writing = completion = self._server.complete(self._body(prompt, call.limit))
        try:
            async with aclosing(self._server.stream(completion)) as events:
                async for event in events:
                    ids = await self._take(event, call)
                    if ids and (delta := maker.feed(event.content, ids)):
                        yield self._keep(delta, call)
                    if maker.is_at_stop:
                        call.stop_type = "word"
                        break
        finally:
            completion.close()
            self._writing = None
        if delta := maker.finish():
            yield self._keep(delta, call)
        call.stop_string = maker.stop_string

    async def _take(self, event: Event, call: _Call) -> Ids:
        """The ids of an event's tokens, counted."""
        call.timings = event.timings or call.timings
        call.stop_type = event.stop_type
        num_new = event.tokens_predicted - call.num_seen
        if event.stop or num_new < 1:  # the end, or progress of the prefill
            return ()
        call.num_seen = event.tokens_predicted
        if num_new == len(event.tokens):
            return tuple(event.tokens)
        # a character spelled by several tokens, of which llama.cpp tells only the last
        return await self._server.tokenize(event.content)

    def _keep(self, delta: Delta, call: _Call) -> Delta:
        call.num_written += delta.num_tokens
        self._own.add(delta.ids or ())
        self._last += delta.ids or ()
        self._context.wrote(delta.text)
        return delta

    def _body(self, prompt: Ids, limit: int) -> dict[str, Any]:
        sampling = self._context.agent.sampling
        body: dict[str, Any] = {
            "prompt": prompt,
            "id_slot": self._slot,
            # what another run left in the slot is not ours to profit from, but for turns of one conversation:
            # so runs on one question stay comparable
            "cache_prompt": self._has_cache or not self._is_fresh,
            "n_predict": limit,
            "stream": True,
            "return_tokens": True,
            "return_progress": True,
            "timings_per_token": True,
            "response_fields": ["content", "tokens", "tokens_predicted", "stop", "stop_type", "timings"],
        }
        self._is_fresh = False
        if self._schema is not None and limit and not self._context.written:
            body["json_schema"] = self._schema
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.repetition_penalty is not None:
            body["repeat_penalty"] = sampling.repetition_penalty
        body |= {
            name: msgspec.json.decode(value) for name, value in self._context.agent.extras.settings if name in SETTINGS
        }
        if sampling.seed is not None:
            body["seed"] = (sampling.seed + len(self._own.all())) % 2**32  # not the same draws again at each update
        return body

    def stop(self) -> None:
        """End the write in flight now: its request is cancelled, and what it has not brought is dropped."""
        self._is_stopped = True
        if self._writing is not None:
            self._writing.close()

    async def aclose(self) -> None:
        """Cancel what is in flight and leave the slot to others."""
        for completion in (self._writing, self._warming):
            if completion is not None:
                completion.close()
        slot, self._slot = self._slot, None
        if slot is not None:
            self._slots.give(slot, self._use)


def _choose_layout(context: Context) -> tuple[AskedLayout, str]:
    match context.agent.layout:
        case None:
            return "grouped", "llama.cpp continues from token ids"
        case "insert":
            return "grouped", "llama.cpp can't insert into its cache"
        case "rounds" | "regrouped" if context.written:
            return "grouped", "an answer that was begun elsewhere has no rounds"
        case layout:
            return layout, "asked for"
