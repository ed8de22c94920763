"""Any OpenAI-compatible `/v1/chat/completions` endpoint: a session sends its whole context with every write.

How an endpoint continues an answer is in `capabilities`, what that makes of a context in `layouts`, one request under
way in `call`, what its bytes mean in `wire`, its failures in `http`.
"""

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from stairstream.backends.base import Session
from stairstream.backends.bodies import BodyReader, read_body
from stairstream.backends.call import Call, finish_response
from stairstream.backends.capabilities import (
    PROBE,
    PROBE_TOKENS,
    UNPROBED,
    Capabilities,
    Capability,
    Continues,
    ProbeMode,
    look_up,
)
from stairstream.backends.continuation import Continuation
from stairstream.backends.endpoint import EFFORTS, Endpoint, Fields
from stairstream.backends.http import NETWORK_ERRORS, HttpPool, connection_error
from stairstream.backends.layouts import choose_layout, choose_seam
from stairstream.backends.receiving import receive
from stairstream.backends.wire import AnswerReader
from stairstream.core.context import Context
from stairstream.core.errors import BackendError, MalformedAnswer, RequestRejected, StreamCut
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import Conversation, estimate_size
from stairstream.core.prompts import Prompt, render
from stairstream.core.seams import EDGE_TOKENS
from stairstream.core.session import Began, Chunk, Ended, Note, Takes, Usage, WriteItem
from stairstream.core.sse import MAX_EVENT_BYTES
from stairstream.core.stops import StopFinder
from stairstream.core.thinking import LATE_TAG
from stairstream.core.tokens import estimate_tokens

Reasoning = Literal["template", "effort", "always"]
"""How a reasoning model is kept from thinking anew, if at all."""

_LESS_THINKING: Mapping[Reasoning | None, Fields] = {
    "template": {"chat_template_kwargs": {"enable_thinking": False}},
    "effort": {"reasoning_effort": EFFORTS[0]},
}

_WORD_EDGE_S = 1.0
_REPEAT_TOKENS = 64
_TOKENS_PER_MESSAGE = 4


class OpenAIBackend:
    """One model behind an OpenAI-compatible endpoint.

    `pool` and `capabilities` are shared by all backends of a process, and closed by who made them. `continues` says
    how the endpoint goes on with an answer; None (auto) leaves it to the table and the probe.

    `reasoning` is how the thoughts of a reasoning model can be kept from coming anew whenever its answer goes on:
    `template` switches them off (`chat_template_kwargs`), `effort` down (`reasoning_effort`), `always` means that
    nothing can be done. A call that may think gets `thinking_tokens` on top of its limit.

    `cache_salt` keeps a server's prefix cache apart from that of others with another one. `session_header` names a
    header that holds the same value in all calls of a session, for routers that send it to the server that knows it.
    With `prefetches` the prompt of each update is sent once before, for one token, while the call under way still
    speaks: shorter gaps, for twice the prompt tokens, where the endpoint caches prefixes. `takes` is what the model
    takes besides text.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        pool: HttpPool,
        capabilities: Capabilities,
        api_key: str | None = None,
        continues: Continues | None = None,
        reasoning: Reasoning | None = None,
        thinking_tokens: int = 0,
        cache_salt: str | None = None,
        session_header: str | None = None,
        prefetches: bool = False,
        takes: Iterable[Takes] = ("tools", "response_format"),
    ) -> None:
        self._takes = frozenset(takes)
        self.prefetches = prefetches
        self.session_header = session_header
        self.reasoning = reasoning
        self.thinking_tokens = thinking_tokens
        self.endpoint = Endpoint(base_url, model, pool, api_key, cache_salt)
        self._capabilities = capabilities
        self._continues = continues
        self._rejecting: Capability | None = None
        self._has_continued = False

    @property
    def model(self) -> str:
        """What the endpoint calls the model."""
        return self.endpoint.model

    @property
    def capability(self) -> Capability:
        """How the endpoint continues an answer, as far as is known without asking it."""
        if self._rejecting:
            return self._rejecting
        if self._continues:
            return Capability(continues=self._continues, why="set in the configuration", is_seen=self._has_continued)
        place = (self.endpoint.base_url, self.model)
        return look_up(*place) or self._capabilities.get(*place) or UNPROBED

    @property
    def room(self) -> None:
        """An endpoint takes as many as come; its own limits are answered with 429."""

    @property
    def takes(self) -> frozenset[Takes]:
        """What it was said to take."""
        return self._takes

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "OpenAISession":
        """A session; nothing is sent yet."""
        return OpenAISession(self, Context(agent=agent, conversation=conversation, written=written))

    async def aclose(self) -> None:
        """Nothing is this backend's alone."""

    async def settle(self, is_fresh: bool = False) -> Capability:
        """How the endpoint continues, by a probe if neither configuration nor table say; raises a BackendError.

        `is_fresh` probes even if an earlier result is at hand.
        """
        if self._continues or look_up(self.endpoint.base_url, self.model):
            return self.capability
        return await self._capabilities.settle(self.endpoint.base_url, self.model, self._ask_probe, is_fresh)

    def note_continued(self) -> None:
        """The endpoint has gone on with an answer, as it was said to."""
        self._has_continued = True

    def note_rejection(self, capability: Capability) -> None:
        """The endpoint has turned out to reject what it was thought to continue: from now on that counts."""
        self._rejecting = capability

    async def _ask_probe(self, mode: ProbeMode) -> str:
        prompt = Prompt(messages=PROBE, continues_last=True)
        body = self.endpoint.body(prompt, Sampling(temperature=0), PROBE_TOKENS, mode)
        less_thinking = _LESS_THINKING.get(self.reasoning, {})
        response, _ = await self.endpoint.send({**body, **less_thinking, "stream": False})
        reader = AnswerReader()
        try:
            pieces = reader.feed_whole(await read_body(response, MAX_EVENT_BYTES))
        except NETWORK_ERRORS as exc:
            raise connection_error(exc, self.endpoint.where) from exc
        self.endpoint.check(reader)
        return "".join(piece.text for piece in pieces)


class OpenAISession(Session):
    """A context that is sent whole with every write."""

    def __init__(self, backend: OpenAIBackend, context: Context) -> None:
        self._backend = backend
        self._context = context
        self._said: set[Note] = set()
        self._thinks_inline = False
        self._headers = {backend.session_header: uuid.uuid4().hex} if backend.session_header else {}
        self._call: Call | None = None
        self._prefetched = Usage(cached_tokens=0)
        self._to_be_found = 0
        self._finds_prefetched = True

    @property
    def prefetches(self) -> bool:
        """Where it was asked for."""
        return self._backend.prefetches

    async def warm(self) -> None:
        """Connect, and probe an endpoint that nobody knows; only for an agent that will have to go on."""
        if not self._context.agent.reads:
            return
        try:
            if self._backend.capability is UNPROBED:
                await self._backend.settle()
            else:
                await self._backend.endpoint.connect()
        except BackendError:
            # the write will fail the same way, and say so
            return

    async def _find_out(self) -> None:
        """Where the very first call goes on from a client's words, how that is done must be known before it."""
        if self._context.agent.begun and self._backend.capability is UNPROBED:
            with suppress(BackendError):  # the write will fail the same way, and say so
                await self._backend.settle()

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; the next write sends them."""
        self._context.read(chunks)

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """Send what the next call will begin with, for one token that nobody hears; not where that was of no use."""
        if not self._finds_prefetched:
            return False
        call = self._prepare(1, self._backend.capability, self._context.ahead(chunks))
        usage = Usage(prompt_tokens=call.began.prompt_tokens, cached_tokens=0, completion_tokens=1, is_estimate=True)
        try:
            response, _ = await self._backend.endpoint.send(
                {**call.body, "max_tokens": 1, "stream": False}, self._headers
            )
            call.reader.feed_whole(await read_body(response, MAX_EVENT_BYTES))
            self._backend.endpoint.check(call.reader)
            usage = call.usage()
            self._to_be_found = usage.prompt_tokens
        except (BackendError, *NETWORK_ERRORS):
            return False  # the update itself will say what is wrong, if it still is
        finally:
            early_tokens = usage.prompt_tokens - (usage.cached_tokens or 0)
            self._prefetched += replace(usage, early_tokens=early_tokens)
        return True

    def _look_for_prefetched(self, call: Call, wanted: int) -> list[Note]:
        """A note if a call did not find in the cache the so many tokens that were prefetched for it."""
        cached = call.reader.cached_tokens
        if cached is None or cached >= wanted / 2:
            return []
        self._finds_prefetched = False
        text = f"prefetch: {self._backend.endpoint.where} does not find what it has computed before, so no more of it"
        return [Note(kind="ignored", text=text)]

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """One request: its answer as it comes, in the layout `quoted` up to EDGE_TOKENS tokens beyond the limit.

        An endpoint that rejects an answer to be continued, or starts it over, is asked once more, with it quoted.
        """
        await self._find_out()
        call = self._call = self._prepare(limit, self._backend.capability)
        wanted, self._to_be_found = self._to_be_found, 0
        try:
            yield call.began
            for note in self._unsaid(call.notes):
                yield note
            try:
                notes = await self._send(call)
            except RequestRejected as exc:
                if not call.is_continued:
                    raise
                unable = Capability(continues="none", why=f"the answer so far was rejected: {exc}")
                call = self._call = self._prepare(limit, unable)
                yield call.began
                notes = [*call.notes, *await self._send(call)]
                self._backend.note_rejection(unable)
            for note in self._unsaid(notes):
                yield note
            spent, begun_at = Usage(cached_tokens=0), len(self._context.written)
            while True:
                reader, continuation, text = call.reader, call.continuation, call.reader.text
                while call.early is not None or not call.is_over:
                    pieces, call.early = call.early, None
                    if pieces is None:
                        pieces = await receive(call, self._backend.endpoint)
                    if text.thoughts and (thought := text.take_thoughts()):
                        call.has_thought = True
                        yield thought
                    delta = continuation.take(pieces, text.is_exact)
                    if delta is not None:
                        self._context.written += delta.text
                        yield delta
                    if reader.calls:
                        if held := continuation.finish():  # words come before calls
                            self._context.written += held.text
                            yield held
                        for one in reader.take_calls() if continuation.reason is None else ():
                            yield one
                    if call.failure is not None:
                        raise call.failure
                    if reader.is_over and reader.is_off:
                        self._backend.endpoint.check(reader)
                if not (call.is_stopped or continuation.reason) and (delta := continuation.finish()):
                    self._context.written += delta.text
                    yield delta
                if call.is_stopped or not continuation.starts_over:
                    break
                spent += call.usage()
                call = self._call = self._quote_instead(call, limit)
                yield call.began
                for note in self._unsaid([*call.notes, *await self._send(call)]):
                    yield note
            if continuation.has_continued:
                self._backend.note_continued()
            self._thinks_inline = self._thinks_inline or reader.thinks_inline
            for note in self._unsaid(self._odd_notes(call, self._context.written[begun_at:])):
                yield note
            call.has_thought = call.has_thought or reader.hides_thoughts
            self._check_thoughts(call)
            await finish_response(call)
            for note in self._unsaid(self._look_for_prefetched(call, wanted)):
                yield note
            self._check_end(call)
            prefetched, self._prefetched = self._prefetched, Usage(cached_tokens=0)
            yield Ended(
                reason=call.reason(),
                usage=call.usage() + prefetched + spent,
                stop_string=call.continuation.stop_string,
                num_tokens=call.num_tokens(),
            )
        finally:
            self._call = None
            call.let_go()

    def stop(self) -> None:
        """End the call: at once, or at the next word edge where the endpoint can't go on inside a word."""
        call = self._call
        if call is None:
            return
        if call.reader.has_ended:  # there is nothing to stop but waiting
            call.end_due_s = 0.0
            call.reader.is_done = True
            call.let_go()
            return
        call.continuation.end_soon()
        if call.continuation.reason:
            call.stop_now()
        elif call.closing is None:
            call.closing = asyncio.get_running_loop().call_later(_WORD_EDGE_S, call.stop_now)

    async def aclose(self) -> None:
        """Close the call under way."""
        if self._call is not None:
            self._call.stop_now()

    def _prepare(self, limit: int, capability: Capability, context: Context | None = None) -> Call:
        context = context or self._context
        layout, why, notes = choose_layout(context, capability)
        prompt = render(context, layout)
        sampling, is_quoted = context.agent.sampling, layout == "quoted"
        room = EDGE_TOKENS + min(_REPEAT_TOKENS, estimate_tokens(context.written)) if is_quoted else 0
        stops = StopFinder(sampling.stop, context.own) if sampling.stop else None
        seam = choose_seam(context, layout, prompt, capability)
        goes_on = bool(context.written)
        less_thinking = _LESS_THINKING.get(self._backend.reasoning, {}) if goes_on else {}
        is_off = "chat_template_kwargs" in less_thinking and self._backend.endpoint.takes("chat_template_kwargs")
        thinking_tokens = 0 if is_off else self._backend.thinking_tokens
        room += thinking_tokens
        endpoint = self._backend.endpoint
        withholds = not (prompt.continues_last or is_off) and endpoint.lone_tag is not False
        body = endpoint.body(prompt, sampling, limit + room, capability.continues, context.agent.extras)
        prompt_tokens = sum(estimate_size(one) + _TOKENS_PER_MESSAGE for one in prompt.messages)
        return Call(
            began=Began(layout=layout, why=why, prompt_tokens=prompt_tokens, is_estimate=True),
            notes=notes,
            body={**body, **less_thinking},
            max_tokens=limit + room,
            continuation=Continuation(limit, seam, stops, ends_at_word=is_quoted, is_told=not thinking_tokens),
            is_continued=prompt.continues_last,
            # in a message that is continued, a tag may be a word like any other
            reader=AnswerReader(
                finds_thoughts=not prompt.continues_last or self._thinks_inline,
                withholds=withholds,
                is_sure=endpoint.lone_tag is True,
            ),
            withholds=withholds,
            gap_s=context.agent.gap_s or math.inf,
        )

    def _quote_instead(self, call: Call, limit: int) -> Call:
        """The call that is made instead of one whose answer starts over; nothing of that was shown."""
        call.let_go()
        where, continues = self._backend.endpoint.where, self._backend.capability.continues
        why = f"{where} starts its answer over where it was to continue it ({continues})"
        unable = Capability(continues="none", why=why)
        self._backend.note_rejection(unable)
        again = self._prepare(limit, unable)
        again.notes = (*again.notes, Note(kind="ignored", text=f"continues: {why}; from now on it is quoted"))
        return again

    def _check_thoughts(self, call: Call) -> None:
        """Thoughts that leave no room for a word are no answer, and would be none the next time."""
        if (
            call.has_thought
            and not (call.continuation.num_tokens or call.reader.call_tokens)
            and call.reader.finish_reason == "length"
        ):
            where, tokens = self._backend.endpoint.where, call.max_tokens
            raise MalformedAnswer(f"{where}: its thoughts took all {tokens} tokens of the call; raise thinking_tokens")

    def _check_end(self, call: Call) -> None:
        """What the endpoint calls its own trouble is no end of the answer."""
        said = call.reader.cut
        if said is not None and not (call.is_stopped or call.continuation.reason):
            raise StreamCut(self._backend.endpoint.describe(f"the answer broke off, with finish_reason {said}"))

    def _odd_notes(self, call: Call, words: str) -> list[Note]:
        """What was odd about an answer, and what its endpoint is now known to do with thoughts."""
        endpoint, text = self._backend.endpoint, call.reader.text
        notes = [Note(kind="odd", text=endpoint.describe(said)) for said in call.reader.oddities]
        if call.withholds and text.has_said:
            was_late = not text.found_lone_tag and LATE_TAG.search(words) is not None
            endpoint.lone_tag = text.found_lone_tag or was_late
            if was_late:
                late = "its words before the closing tag were thoughts: from the next answer on they are kept apart"
                notes.append(Note(kind="reasoning", text=endpoint.describe(late)))
        return notes

    def _unsaid(self, notes: Sequence[Note]) -> list[Note]:
        """The notes that this session has not given yet."""
        new = [note for note in notes if note not in self._said]
        self._said.update(new)
        return new

    async def _send(self, call: Call) -> list[Note]:
        if call.is_stopped:
            return []
        try:
            async with asyncio.timeout(None) as call.sending:
                call.response, notes = await self._backend.endpoint.send(call.body, self._headers)
        except (TimeoutError, BackendError):
            if not call.is_stopped:
                raise
            return []
        finally:
            call.sending = None
        call.received = BodyReader(call.response)
        if call.is_continued and not call.is_stopped:
            call.early = await receive(call, self._backend.endpoint)
            if call.reader.problem is not None:  # it may be a rejection that came late
                self._backend.endpoint.check(call.reader)
        return notes
