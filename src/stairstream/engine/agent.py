"""One agent's loop: wait for upstream, read what is new, write, and again, as its policy decides."""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal, assert_never

from stairstream.backends.base import Backend, Session
from stairstream.core.decisions import Decision, Finish, Own, Wait, Write, decide, observe
from stairstream.core.errors import (
    BackendError,
    MalformedAnswer,
    RequestRejected,
    StairstreamError,
    TooSlow,
    as_failure,
)
from stairstream.core.events import Called, Event, LayoutChosen, Noted, Reading, StepEnded, StepStarted
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, Ended, EndReason, Layout, Note, NoteKind, ToolDelta, Usage
from stairstream.core.tokens import believed_tokens
from stairstream.engine.ahead import Ahead
from stairstream.engine.alarm import Alarm
from stairstream.engine.log import Log
from stairstream.engine.needs import fit, missing_of
from stairstream.engine.output import Output
from stairstream.engine.prefetch import Prefetch, Spawn
from stairstream.engine.reader import Reader
from stairstream.engine.room import ContextRoom
from stairstream.engine.standstill import Standstills

_NOTHING = Usage(cached_tokens=0)
OwnEnd = Literal["stop", "length", "content_filter", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an agent's loop needs of its run: the time since it began, where events go, who else waits."""

    clock: Callable[[], float]
    emit: Callable[[Event], None]
    standstills: Standstills


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
    ) -> None:
        """`backends` are the agent's model and then its fallbacks; `upstream` the logs that it reads."""
        self._agent = agent
        self._policy = replace(agent.policy, first_chunk=math.inf) if agent.one_call else agent.policy
        self._conversation = conversation
        self._backends = tuple(backends)
        self._backend = self._backends[0]
        self._output = output
        self._upstream = upstream
        self._reader = Reader(upstream)
        self._alarm = Alarm(self._reader, surroundings.clock)
        self._ahead: Ahead | None = None
        self._prefetch: Prefetch | None = None
        self._room = ContextRoom.of(agent, conversation)
        self._clock = surroundings.clock
        self._emit = surroundings.emit
        self._standstills = surroundings.standstills
        self._own = Own(max_tokens=agent.sampling.max_tokens)
        self._num_steps = 0
        self._has_read = False
        self._had_ended = False
        self._was_full = False
        self._session: Session | None = None
        self._layout: tuple[Layout, str] | None = None
        self._step_tokens = 0
        self._step_start = 0
        self._look_at_tokens: float = math.inf
        self._is_stopping = False
        self._waking: asyncio.Future[None] | None = None
        self._began: Began | None = None
        self._spent = _NOTHING
        self._call_tokens = 0
        self._thinking_tokens = 0
        self.has_called = False

    async def run(self, spawn: Spawn) -> OwnEnd:
        """Write to the end; raises BackendError when the last of the agent's models has failed for good."""
        for backend, successor in zip_longest(self._backends, self._backends[1:]):
            self._backend = backend
            try:
                return await self._run_on(backend, spawn)
            except BackendError as exc:
                if self._output.stop_string is not None:  # there is nothing more to say
                    return "stop"
                has_answered = self._had_ended and not self._step_tokens and self._output.num_tokens
                if successor is None and has_answered:
                    self._note("unread", f"{exc}; its answer had ended, and ends without what it had still to read")
                    return "stop"
                if successor is None or self.has_called:  # nobody can go on from half a call
                    raise
                self._note("failover", f"{exc}; {successor.model} goes on")
                self._hand_over()
        raise AssertionError("an agent has at least one backend")

    async def _run_on(self, backend: Backend, spawn: Spawn) -> OwnEnd:
        if missing := missing_of(self._agent, backend):
            raise RequestRejected(f"{backend.model} does not take {missing}")
        conversation = fit(self._conversation, self._agent, backend)
        session = await backend.open(self._agent, conversation, self._agent.begun + self._output.written)
        warming = spawn(session.warm()) if self._agent.reads else None
        if session.reads_ahead and self._own.steps == 0:
            self._ahead = Ahead(session, self._upstream, self._reader.peek)
        self._prefetch = Prefetch(session, spawn) if session.prefetches else None
        try:
            return await self._write_to_the_end(session)
        finally:
            self._alarm.silence(self._on_change)
            self._read_ahead_no_more()
            self._end_prefetch()
            if warming:
                warming.cancel()
            await session.aclose()

    def _read_ahead_no_more(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None

    def _end_prefetch(self) -> None:
        """What was prefetched is what is read now; what was not, is no reason to read less."""
        if self._prefetch is not None and not self._prefetch.end():
            self._reader.release()

    def _hand_over(self) -> None:
        """The next model begins the step that failed again, with everything that had been read."""
        self._reader.rewind()
        is_undone = self._own.is_writing or not self._step_tokens
        steps = max(0, self._own.steps - 1) if is_undone else self._own.steps
        self._own = replace(
            self._own, steps=steps, is_writing=False, model_ended_at=None, is_confirmed=False, is_full=False
        )
        self._has_read, self._step_tokens = False, 0
        self._room = ContextRoom.of(self._agent, self._conversation)
        self._room.prompt_tokens += self._output.num_tokens

    async def _write_to_the_end(self, session: Session) -> OwnEnd:
        while True:
            match self._decide():
                case Wait() as wait:
                    await self._wait(wait)
                case Write() as write:
                    # who keeps to the last limit that there is has ended, however we count its tokens
                    is_last = write.limit >= self._own.max_tokens - self._own.num_written
                    reason = await self._step(session, write)
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
        its server before its first word has failed, and behind it has ended.
        """
        if self._step_tokens or self.has_called or reason not in ("stop", "length"):
            return
        is_empty, is_last = self._is_silent, self._backend is self._backends[-1]
        if is_empty and not (is_last and reason == "stop"):
            raise MalformedAnswer(f"{self._backend.model} gave an empty answer")
        if reason == "length" and not is_last:
            raise MalformedAnswer(f"{self._backend.model} came to a limit of its own before a word")

    @property
    def _is_silent(self) -> bool:
        """Whether there is no answer: to words that the client began, nothing more may be the right one."""
        return not (self._output.num_tokens or self.has_called or self._agent.begun)

    def _decide(self) -> Decision:
        upstream, now = self._reader.progress(), self._alarm.now()
        own = replace(self._own, step_written=self._step_tokens, num_written=self._output.num_tokens)
        self._own = own = observe(self._policy, upstream, own, now)
        decision = decide(self._policy, upstream, own, now)
        is_update = isinstance(decision, Write) and decision.reads and self._has_read
        if is_update and self._reader.num_unread > self._room_to_read():
            self._note_full("the context is nearly full: no more updates, the answer goes on with what it has read")
            self._own = replace(own, is_full=True)
            return decide(self._policy, upstream, self._own, now)
        return decision

    def _room_to_read(self) -> float:
        return self._room.for_references(self._output.num_tokens, self._step_tokens)

    def _note_full(self, text: str) -> None:
        """Once, though a fallback reads under the same lack of room."""
        if not self._was_full:
            self._was_full = True
            self._note("full", text)

    def _note(self, kind: NoteKind, text: str) -> None:
        self._emit(Noted(at_s=self._clock(), agent=self._agent.name, note=Note(kind=kind, text=text)))

    # Waiting between steps

    async def _wait(self, wait: Wait) -> None:
        """Until upstream changes in a way that matters, or `wait.until`."""
        self._waking = waking = asyncio.get_running_loop().create_future()
        self._alarm.set(wait, self._on_change)
        try:
            if wait.until == math.inf:
                self._standstills.wait(self._agent.name, waking)
            await waking
        finally:
            self._waking = None
            self._alarm.silence(self._on_change)

    def _on_change(self) -> None:
        """The alarm rings."""
        if self._session is not None:
            self._look()
        elif self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    # One step

    async def _step(self, session: Session, write: Write) -> EndReason:
        """Read everything that is there, then write until the model ends, the limit, or an update is due."""
        self._read_ahead_no_more()
        self._end_prefetch()
        chunks, readings = self._take() if write.reads else ([], ())
        step, self._num_steps = self._num_steps, self._num_steps + 1
        is_update = self._own.steps > 0
        self._begin_step(write)
        name = self._agent.name
        self._emit(StepStarted(at_s=self._clock(), agent=name, step=step, limit=write.limit, readings=readings))
        ended: Ended | None = None
        reason: EndReason | Literal["failed", "cancelled"] = "failed"
        try:
            if chunks:
                await session.read(chunks)
            ended = await self._write(session, write.limit)
            reason = ended.reason
            self._recount(ended, write.limit)
        except asyncio.CancelledError:
            reason = "cancelled"
            raise
        except BackendError as exc:
            self._began = None if exc.is_refusal else self._began
            raise
        finally:
            self._session = None
            self._output.rest()
            self._alarm.silence(self._on_change)
            usage, stop = self._usage(ended), ended.stop_string if ended else None
            self._emit(
                StepEnded(at_s=self._clock(), agent=name, step=step, reason=reason, usage=usage, stop_string=stop)
            )
        self._own = replace(
            self._own,
            is_writing=False,
            model_ended_at=self._clock() if ended.reason == "stop" else None,
            is_confirmed=ended.reason == "stop" and is_update and self._step_tokens == 0,
        )
        return ended.reason

    def _begin_step(self, write: Write) -> None:
        own = self._own
        self._had_ended = own.model_ended_at is not None
        waited_s = self._alarm.now() - own.model_ended_at if own.model_ended_at is not None else 0.0
        self._own = replace(
            own,
            steps=own.steps + 1,
            is_writing=True,
            model_ended_at=None,
            is_confirmed=False,
            waited_s=own.waited_s + waited_s,
            quorum_since=None,
            is_full=own.is_full or self._agent.one_call,
            limit=own.num_written + write.limit,
        )
        self._step_tokens, self._call_tokens, self._thinking_tokens = 0, 0, 0
        self._began, self._is_stopping, self._spent = None, False, _NOTHING
        self._step_start = self._output.size
        self._output.ask(self._clock())

    def _recount(self, ended: Ended, limit: int) -> None:
        """Set our count of the step's tokens right by its endpoint's: it may send several in a delta, or some without
        text."""
        num_characters = self._output.size - self._step_start
        is_at_limit = ended.reason == "limit"
        counted = believed_tokens(self._step_tokens, ended.num_tokens, num_characters, limit if is_at_limit else 0)
        self._output.recount(counted - self._step_tokens)

    def _take(self) -> tuple[list[Chunk], tuple[Reading, ...]]:
        """What there is to read; cut to what the context holds, which can only befall a session's first step."""
        self._has_read = True
        room = self._room_to_read()
        if self._reader.num_unread > room:
            self._note_full("the references are longer than the context: only their beginnings were read")
            self._own = replace(self._own, is_full=True)
        return self._reader.take(room)

    async def _write(self, session: Session, limit: int) -> Ended:
        """One write of the session, with its deadlines."""
        agent = self._agent
        allowed_s: float | None = None
        ended: Ended | None = None
        try:
            async with asyncio.timeout(None) as deadline, aclosing(session.write(limit)) as items:
                async for item in items:
                    if self._output.stop_string is not None and not isinstance(item, Ended):
                        continue
                    match item:
                        case Delta():
                            self._append(item)
                            if self._output.stop_string is not None:
                                session.stop()
                            if allowed_s is not None or agent.gap_s is not None:
                                allowed_s = agent.gap_s
                                deadline.reschedule(_after(allowed_s))
                        case ToolDelta():
                            self._call(item)
                            allowed_s = agent.gap_s
                            deadline.reschedule(_after(allowed_s))
                        case Began():
                            # waiting for a permit is not the endpoint's fault: its time runs from here
                            allowed_s = agent.first_token_s
                            deadline.reschedule(_after(allowed_s))
                            self._begin(session, item)
                        case Note():
                            if item.kind == "retry":
                                deadline.reschedule(None)
                                self._began = None
                            self._spent += item.usage or _NOTHING
                            self._emit(Noted(at_s=self._clock(), agent=agent.name, note=item))
                        case Ended():
                            ended = item
                        case never:
                            assert_never(never)
        except TimeoutError:
            where = " in mid-answer" if self._step_tokens or self.has_called else ""
            raise TooSlow(f"{self._backend.model} said nothing for {allowed_s:g} s{where}") from None
        except StairstreamError:
            raise
        except Exception as exc:
            raise as_failure(exc, self._backend.model) from exc
        assert ended is not None, "a session ends each write with Ended"
        if (stop := self._output.stop_string) is not None:
            return replace(ended, reason="stop_string", stop_string=stop)
        return ended

    def _append(self, delta: Delta) -> None:
        for event in self._output.append(delta, self._clock()):
            self._emit(event)
        if delta.is_thinking:
            self._think(delta.num_tokens)
        else:
            self._step_tokens += delta.num_tokens
        if self._step_tokens >= self._look_at_tokens:
            self._look()

    def _think(self, num_tokens: int) -> None:
        """Count thoughts: a call that thinks without end is a failure of its model."""
        self._thinking_tokens += num_tokens
        most = self._agent.most_thoughts
        if self._thinking_tokens > most:
            raise MalformedAnswer(f"{self._backend.model}: its thoughts took all {most} tokens; raise thinking_tokens")

    def _call(self, delta: ToolDelta) -> None:
        for event in self._output.release(self._clock()):  # words come before calls
            self._emit(event)
        self.has_called = True
        self._call_tokens += delta.num_tokens
        self._emit(
            Called(
                at_s=self._clock(),
                agent=self._agent.name,
                index=delta.index,
                id=delta.id,
                name=delta.name,
                arguments=delta.arguments,
                num_tokens=delta.num_tokens,
                is_estimate=delta.is_estimate,
            )
        )

    def _begin(self, session: Session, began: Began) -> None:
        """The write is under way: from now on an update that is due may stop it."""
        self._began = began
        self._room.began(began.prompt_tokens)
        if (began.layout, began.why) != self._layout:
            self._layout = began.layout, began.why
            self._emit(LayoutChosen(at_s=self._clock(), agent=self._agent.name, layout=began.layout, why=began.why))
        if self._agent.reads:
            self._session = session
            self._look()

    def _look(self) -> None:
        """Beside a step under way: ask it to stop if an update is due, else see when to look again."""
        self._look_at_tokens = math.inf
        if self._is_stopping or (self._prefetch is not None and self._prefetch.is_under_way):
            return
        match self._decide():
            case Write():
                self._alarm.silence(self._on_change)
                if self._prefetch is not None and (self._step_tokens or self._prefetch.was_done):
                    self._prefetch.begin(self._reader.hold(), self._stop_step)
                else:
                    self._stop_step()
            case Wait() as wait:
                self._look_at_tokens = wait.own_tokens
                self._alarm.set(wait, self._on_change)
            case Finish():
                self._alarm.silence(self._on_change)
            case never:
                assert_never(never)

    def _stop_step(self) -> None:
        """Ask the step under way to end, if there is one."""
        if self._session is not None and not self._is_stopping:
            self._is_stopping = True
            self._session.stop()

    def _usage(self, ended: Ended | None) -> Usage:
        """What the backend said of a step; for a call that was cut, what was sent and came back, as an estimate.

        The calls before it that came to nothing count too.
        """
        if ended is not None and ended.usage is not None:
            return ended.usage + self._spent
        prompt_tokens = self._began.prompt_tokens if self._began else 0
        completion_tokens = self._step_tokens + self._call_tokens + self._thinking_tokens
        return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, is_estimate=True) + self._spent


def _after(delay_s: float | None) -> float | None:
    return None if delay_s is None else asyncio.get_running_loop().time() + delay_s
