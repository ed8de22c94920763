"""One agent's loop: wait for upstream, read what is new, write, and again, as its policy decides.

It decides by `progress`, does and records by `writer`; here is the order of things, and failover.
"""

import asyncio
import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal, assert_never

from stairstream.backends.base import Backend, Session
from stairstream.core.decisions import Finish, Wait, Write
from stairstream.core.errors import BackendError, MalformedAnswer, RequestRejected, StreamCut
from stairstream.core.events import Noted, StepEnded, StepStarted
from stairstream.core.graph import Agent
from stairstream.core.journal import AgentPast, OwnEnd
from stairstream.core.messages import Conversation
from stairstream.core.outlook import Foresight
from stairstream.core.session import Began, Ended, EndReason, Note, NoteKind
from stairstream.engine.ahead import Ahead
from stairstream.engine.alarm import Alarm
from stairstream.engine.log import Log
from stairstream.engine.needs import fit, missing_of
from stairstream.engine.output import Output
from stairstream.engine.prefetch import Prefetch, Spawn
from stairstream.engine.progress import Progress
from stairstream.engine.reader import Reader
from stairstream.engine.step import Step
from stairstream.engine.surroundings import Surroundings
from stairstream.engine.writer import Writer


class AgentLoop:
    """Runs one agent to its end. All waiting is for a change upstream or a timer; nothing polls."""

    def __init__(
        self,
        agent: Agent,
        conversation: Conversation,
        backends: Sequence[Backend],
        output: Output,
        upstream: Sequence[Log],
        surroundings: Surroundings,
        foresight: Foresight | None = None,
        past: AgentPast | None = None,
    ) -> None:
        """`backends` are the agent's model and then its fallbacks; `upstream` the logs that it reads.

        `past` is that of an agent that has begun in another process; its words are in `output`.
        """
        self._agent = agent
        self._conversation = conversation
        self._backends = tuple(backends)
        self._output = output
        self._upstream = upstream
        self._surroundings = surroundings
        self._reader = Reader(upstream)
        self._alarm = Alarm(self._reader, surroundings.clock)
        self._writer = Writer(agent, output, surroundings)
        self._progress = Progress(agent, conversation, output, self._reader, self._alarm.now, surroundings, foresight)
        self._backend: Backend  # the one that is asked now, as `run` goes from each to the next
        self._session: Session | None = None
        self._step = Step(index=-1)
        self._is_writing = False
        self._waking: asyncio.Future[None] | None = None
        self._ahead: Ahead | None = None
        self._prefetch: Prefetch | None = None
        self._past = past
        if past is not None:
            self._restore(past)

    def _restore(self, past: AgentPast) -> None:
        self._backends = self._backends[past.num_failovers :]
        self._output.has_called = past.has_called
        self._progress.restore(past)
        self._step = Step(index=past.step.index, tokens=past.step.tokens)

    async def run(self, spawn: Spawn) -> OwnEnd:
        """Write to the end; raises BackendError when the last of the agent's models has failed for good."""
        if self._past is not None and self._past.own_end is not None:
            return self._past.own_end
        if self._output.has_called:  # half a call can't be continued
            raise StreamCut("the process that ran it was lost in the middle of a tool's call")
        for backend, successor in zip_longest(self._backends, self._backends[1:]):
            self._backend = backend
            try:
                return await self._run_on(backend, spawn)
            except BackendError as exc:
                if self._output.stop_string is not None:  # there is nothing more to say
                    return "stop"
                has_answered = self._progress.had_ended and not self._step.tokens and self._output.num_tokens
                if successor is None and has_answered:
                    self._note("unread", f"{exc}; its answer had ended, and ends without what it had still to read")
                    return "stop"
                if successor is None or self._output.has_called:  # half a call can't be continued
                    raise
                self._note("failover", f"{exc}; {successor.model} continues")
                self._progress.hand_over(self._step.tokens)
                self._step.tokens = 0
        raise AssertionError("an agent has at least one backend")

    async def _run_on(self, backend: Backend, spawn: Spawn) -> OwnEnd:
        if missing := missing_of(self._agent, backend):
            raise RequestRejected(f"{backend.model} does not take {missing}")
        conversation = fit(self._conversation, self._agent, backend)
        session = await backend.open(self._agent, conversation, self._agent.begun + self._output.written)
        warming = spawn(session.warm()) if self._agent.reads else None
        if session.reads_ahead and not self._progress.has_begun:
            self._ahead = Ahead(session, self._upstream, self._reader.peek)
        self._prefetch = Prefetch(session, spawn) if session.prefetches else None
        self._session = session
        self._alarm.open()
        try:
            return await self._write_to_the_end(session)
        finally:
            self._session = None
            self._alarm.close()
            self._end_reading_early()
            if warming:
                warming.cancel()
            await session.aclose()

    async def _write_to_the_end(self, session: Session) -> OwnEnd:
        while True:
            match self._progress.decide(self._step.tokens):
                case Wait() as wait:
                    await self._wait(wait)
                case Write() as write:
                    # an endpoint that keeps to the last limit has ended the answer, however we count its tokens
                    is_last = write.limit >= self._progress.tokens_left
                    reason = await self._make_step(session, write)
                    self._check_silence(reason)
                    if reason in ("length", "content_filter", "tool_calls"):
                        return reason
                    if reason == "limit" and is_last:
                        return "length"
                    if reason == "stop_string":
                        return "stop"
                case Finish(reason=finish):
                    if self._is_silent:
                        raise MalformedAnswer(f"{self._backend.model} gave an empty answer")
                    return finish
                case never:
                    assert_never(never)

    def _check_silence(self, reason: EndReason) -> None:
        """A call that ends before a word leaves the answer to a fallback, if there is one.

        If not, a model that had nothing to say is asked again when there is more to read; one that came to a limit of
        its server before its first word has failed, and after it has ended.
        """
        if self._step.tokens or self._output.has_called or reason not in ("stop", "length"):
            return
        is_empty, is_last = self._is_silent, self._backend is self._backends[-1]
        if is_empty and not (is_last and reason == "stop"):
            raise MalformedAnswer(f"{self._backend.model} gave an empty answer")
        if reason == "length" and not is_last:
            raise MalformedAnswer(f"{self._backend.model} came to a limit of its own before a word")

    @property
    def _is_silent(self) -> bool:
        """Whether there is no answer: to words that the client began, nothing more may be the right one."""
        return not (self._output.num_tokens or self._output.has_called or self._agent.begun)

    # Waiting between steps

    async def _wait(self, wait: Wait) -> None:
        """Until upstream changes in a way that matters, or `wait.until`."""
        self._waking = waking = asyncio.get_running_loop().create_future()
        self._alarm.set(wait, self._on_change)
        try:
            if wait.until == math.inf:
                self._surroundings.standstills.wait(self._agent.name, waking)
            await waking
        finally:
            self._waking = None
            self._alarm.silence()

    def _on_change(self) -> None:
        """The alarm rings."""
        if self._is_writing:
            self._look()
        elif self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    # One step

    async def _make_step(self, session: Session, write: Write) -> EndReason:
        """Read everything that is there, then write until the model ends, the limit, or an update is due."""
        self._end_reading_early()
        progress = self._progress
        chunks, readings = progress.take(self._step.tokens) if write.reads else progress.take_again()
        step = self._step = Step(
            index=self._step.index + 1,
            limit=write.limit,
            is_update=progress.has_begun,
            size_before=self._output.size,
        )
        progress.begin_step(write.limit)
        name, clock, emit = self._agent.name, self._surroundings.clock, self._surroundings.emit
        self._output.ask(clock())
        emit(StepStarted(at_s=clock(), agent=name, step=step.index, limit=step.limit, readings=readings))
        ended: Ended | None = None
        reason: EndReason | Literal["failed", "cancelled"] = "failed"
        uncounted = 0
        try:
            if chunks:
                await session.read(chunks)
            ended = await self._writer.write(session, step, self._backend.model, self._look_at)
            reason = ended.reason
            uncounted = step.uncounted_tokens(ended, self._output.size)
            self._output.recount(uncounted)
        except asyncio.CancelledError:
            reason = "cancelled"
            raise
        except BackendError as exc:
            step.began = None if exc.is_refusal else step.began
            raise
        finally:
            self._is_writing = False
            self._output.rest()
            self._alarm.silence()
            emit(
                StepEnded(
                    at_s=clock(),
                    agent=name,
                    step=step.index,
                    reason=reason,
                    usage=step.usage(ended),
                    stop_string=ended.stop_string if ended else None,
                    uncounted_tokens=uncounted,
                )
            )
        progress.end_step(ended, clock(), adds_nothing=step.is_update and step.tokens == 0)
        return ended.reason

    def _end_reading_early(self) -> None:
        """The session reads now. What was prefetched is what it reads; what was not, is no reason to read less."""
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None
        if self._prefetch is not None and not self._prefetch.end():
            self._reader.release()

    def _look_at(self, began: Began | None) -> None:
        """The write is in flight, or has come far enough: from now on an update that is due may stop it."""
        if began is not None:
            self._progress.begin_call(began.prompt_tokens)
            self._is_writing = bool(self._agent.reads)
        if self._is_writing:
            self._look()

    def _look(self) -> None:
        """Beside a step in flight: ask it to stop if an update is due, else see when to look again."""
        step = self._step
        step.look_at_tokens = math.inf
        if self._prefetch is not None and self._prefetch.has_begun:
            return
        match self._progress.decide(step.tokens):
            case Write():
                self._alarm.silence()
                if self._prefetch is not None and (step.tokens or self._prefetch.was_done):
                    self._prefetch.begin(self._reader.hold(), self._stop_step)
                else:
                    self._stop_step()
            case Wait() as wait:
                step.look_at_tokens = wait.own_tokens
                self._alarm.set(wait, self._on_change)
            case Finish():
                self._alarm.silence()
            case never:
                assert_never(never)

    def _stop_step(self) -> None:
        """Ask the step in flight to end, if there is one."""
        if self._session is not None and self._is_writing:
            self._session.stop()

    def _note(self, kind: NoteKind, text: str) -> None:
        note = Note(kind=kind, text=text)
        self._surroundings.emit(Noted(at_s=self._surroundings.clock(), agent=self._agent.name, note=note))
