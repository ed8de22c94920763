"""One agent's context at an endpoint, whatever its protocol: it is sent whole with every write.

A request is built in `preparing`; one in flight is in `call`, what its bytes mean in `wire`, its failures in `http`.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from stairstream.backends.base import Session, Take
from stairstream.backends.bodies import BodyReader, read_body
from stairstream.backends.call import Call, finish_response
from stairstream.backends.capabilities import UNPROBED, Capability
from stairstream.backends.http import NETWORK_ERRORS
from stairstream.backends.passing import Passing
from stairstream.backends.receiving import receive
from stairstream.backends.sorting import Piece
from stairstream.core.context import Context
from stairstream.core.errors import BackendError, MalformedAnswer, RequestRejected, StreamCut
from stairstream.core.session import Chunk, Ended, Note, Usage, WriteItem
from stairstream.core.sse import MAX_EVENT_BYTES
from stairstream.core.thinking import LATE_TAG

if TYPE_CHECKING:
    from stairstream.backends.endpoint_backend import EndpointBackend

_WORD_EDGE_S = 1.0


class EndpointSession(Session):
    """A context that is sent whole with every write."""

    def __init__(self, backend: "EndpointBackend", context: Context) -> None:
        self._backend = backend
        self._context = context
        self._said: set[Note] = set()
        self._thinks_inline = False
        self._headers = {backend.session_header: uuid.uuid4().hex} if backend.session_header else {}
        self._call: Call | None = None
        self._take: Take | None = None
        self._prefetched = Usage(cached_tokens=0)
        self._to_be_found = 0
        self._finds_prefetched = True

    @property
    def prefetches(self) -> bool:
        """The endpoint that it was asked for at."""
        return self._backend.prefetches

    async def warm(self) -> None:
        """Connect, and probe an endpoint that is not known yet; only for an agent that will have to continue."""
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
        """Find out how the endpoint continues, where already the first call continues a client's words."""
        if self._context.agent.begun and self._backend.capability is UNPROBED:
            with suppress(BackendError):  # the write will fail the same way, and say so
                await self._backend.settle()

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; the next write sends them."""
        self._context.read(chunks)

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """Send what the next call will begin with, for one token that is dropped; not where that was of no use."""
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
        begun_at = len(self._context.written)
        try:
            while True:
                async with aclosing(self._begin(call, limit)) as items:
                    async for item in items:
                        yield item
                call = self._call
                # each token passes here, so this loop is one piece
                reader, continuation, text = call.reader, call.continuation, call.reader.text
                passing = self._passing(call)
                while call.early is not None or not call.is_over:
                    if passing is not None and call.early is None and passing.is_open:
                        if (delta := await passing.wait()) is not None:
                            yield delta
                            continue
                        if call.early is None and call.is_over:
                            break
                    pieces, call.early = call.early, None
                    if pieces is None:
                        pieces = await receive(call, self._backend.endpoint)
                    if text.thoughts or reader.calls:
                        for item in self._sort(call, pieces):
                            yield item
                    elif (delta := continuation.take(pieces, text.is_exact)) is not None:
                        self._context.wrote(delta.text)
                        yield delta
                    if call.failure is not None:
                        raise call.failure
                    if reader.is_over and reader.is_off:
                        self._backend.endpoint.check(reader)
                if not (call.is_stopped or continuation.reason) and (delta := continuation.finish()):
                    self._context.wrote(delta.text)
                    yield delta
                if call.is_stopped or not continuation.starts_over:
                    break
                call = self._call = self._quote_instead(call, limit)
            async with aclosing(self._end(call, self._context.written[begun_at:], wanted)) as items:
                async for item in items:
                    yield item
        finally:
            self._call.let_go()
            self._call = None

    async def _begin(self, call: Call, limit: int) -> AsyncGenerator[WriteItem, None]:
        """All up to the answer: the call is sent, or where it is rejected another one, which is then `_call`."""
        yield call.began
        for note in self._unsaid(call.notes):
            yield note
        try:
            notes = await self._send(call)
        except RequestRejected as exc:
            if not call.is_continued:
                raise
            call.let_go()
            unable = Capability(continues="none", why=f"the answer so far was rejected: {exc}")
            call = self._call = self._prepare(limit, unable)
            yield call.began
            notes = [*call.notes, *await self._send(call)]
            self._backend.note_rejection(unable)
        for note in self._unsaid(notes):
            yield note

    def _sort(self, call: Call, pieces: list[Piece]) -> Iterator[WriteItem]:
        """Thoughts, words and calls of tools that came together, in this order."""
        reader, continuation = call.reader, call.continuation
        if thought := reader.text.take_thoughts():
            call.has_thought = True
            yield thought
        if (delta := continuation.take(pieces, reader.text.is_exact)) is not None:
            self._context.wrote(delta.text)
            yield delta
        if reader.calls:
            if held := continuation.finish():  # words come before calls
                self._context.wrote(held.text)
                yield held
            yield from reader.take_calls() if continuation.reason is None else ()

    async def _end(self, call: Call, words: str, wanted: int) -> AsyncGenerator[WriteItem, None]:
        """The notes on an answer that is over, and its end; raises a BackendError if it was none."""
        if call.continuation.has_continued:
            self._backend.note_continued()
        self._thinks_inline = self._thinks_inline or call.reader.thinks_inline
        for note in self._unsaid(self._odd_notes(call, words)):
            yield note
        call.has_thought = call.has_thought or call.reader.hides_thoughts
        self._check_thoughts(call)
        await finish_response(call)
        for note in self._unsaid(self._look_for_prefetched(call, wanted)):
            yield note
        self._check_end(call)
        prefetched, self._prefetched = self._prefetched, Usage(cached_tokens=0)
        yield Ended(
            reason=call.reason(),
            usage=call.usage() + prefetched,
            stop_string=call.continuation.stop_string,
            num_tokens=call.num_tokens(),
        )

    def hand_to(self, take: Take | None) -> None:
        """As in Session, where the connection can tell of its bytes."""
        self._take = take

    def _passing(self, call: Call) -> Passing | None:
        if self._take is None or call.response is None:
            return None
        return Passing(call, self._backend.endpoint, self._context, self._take)

    def stop(self) -> None:
        """End the call: at once, or at the next word edge where the endpoint can't continue inside a word."""
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
        """Close the call in flight."""
        if self._call is not None:
            self._call.stop_now()

    def _prepare(self, limit: int, capability: Capability, context: Context | None = None) -> Call:
        return self._backend.prepare(context or self._context, limit, capability, self._thinks_inline)

    def _quote_instead(self, call: Call, limit: int) -> Call:
        """The call that is made instead of one whose answer starts over; nothing of that was shown."""
        call.let_go()
        where, continues = self._backend.endpoint.where, self._backend.capability.continues
        why = f"{where} starts its answer over where it was to continue it ({continues})"
        unable = Capability(continues="none", why=why)
        self._backend.note_rejection(unable)
        again = self._prepare(limit, unable)
        text = f"continues: {why}; from now on it is quoted"
        again.notes = (*again.notes, Note(kind="ignored", text=text, usage=call.usage()))
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
        """Raise for an end that the endpoint calls its own failure: it is no end of the answer."""
        said = call.reader.cut
        if said is not None and not (call.is_stopped or call.continuation.reason):
            raise StreamCut(self._backend.endpoint.describe(f"the answer broke off, with finish_reason {said}"))

    def _odd_notes(self, call: Call, words: str) -> list[Note]:
        """Notes on what was odd about an answer, and what its endpoint is now known to do with thoughts."""
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
