"""The models of a case, as backends: each says its tokens at their times, and misbehaves as its case says."""

import asyncio
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import NamedTuple

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted.faults import LATE_FAULTS, SILENT_FAULTS, Fault, error_of, raise_at_start
from stairstream.backends.scripted.words import pieces_of
from stairstream.core.context import Context
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.prompts import render, settle
from stairstream.core.session import Began, Chunk, Delta, Ended, EndReason, Takes, ToolDelta, Usage, WriteItem
from stairstream.sim.prove.case import ModelCase
from stairstream.sim.prove.recording import RecordedRoom
from stairstream.sim.prove.tape import TAPE, Sent, Shared, Tape

_ROUND = 10
_SHORT = 20
_PROMPT_EVERY = 4
"""One session in so many renders its prompt, to be looked through for texts of errors."""


class Player(Backend):
    """One model of a case."""

    def __init__(self, case: ModelCase, shared: Shared, engine: "PlayedEngine | None" = None) -> None:
        self.case = case
        self.shared = shared
        self.engine = engine
        self.faults = dict(case.faults)
        self.num_calls = 0
        self.num_writing = 0

    @property
    def model(self) -> str:
        return self.case.name

    @property
    def room(self) -> RecordedRoom | None:
        return None if self.engine is None else self.engine.room

    @property
    def takes(self) -> frozenset[Takes]:
        return frozenset(("tools",)) if self.case.tool_calls else frozenset()

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        tape = TAPE.get()
        tape.continued.append((agent.name, written, agent.begun + tape.words.get(agent.name, "")))
        if self.case.open_s:
            await asyncio.sleep(self.case.open_s)
        tape.num_sessions += 1
        if self.engine is not None:
            self.engine.open()
        return _PlayerSession(self, tape, agent, conversation, written)

    async def aclose(self) -> None:
        return


class PlayedEngine:
    """Counts the sessions that are open in an engine."""

    def __init__(self, number: int, room: RecordedRoom, shared: Shared) -> None:
        self.room = room
        self.num_sessions = 0
        self._number = number
        self._most = shared.most_sessions

    def open(self) -> None:
        """One more session."""
        self.num_sessions += 1
        self._most[self._number] = max(self._most.get(self._number, 0), self.num_sessions)

    def close(self) -> None:
        """One session less."""
        self.num_sessions -= 1


class _Cue(NamedTuple):
    """A delta that is to come: the number of its last token in the call gives its time."""

    last: int
    text: str
    num_tokens: int
    is_thinking: bool = False
    piece: ToolDelta | None = None


class _PlayerSession(Session):
    def __init__(self, player: Player, tape: Tape, agent: Agent, conversation: Conversation, written: str) -> None:
        self._player = player
        self._case = player.case
        self._tape = tape
        self._agent = agent
        is_shown = tape.shared.next_serial() % _PROMPT_EVERY == 0
        self._context = Context(agent=agent, conversation=conversation, written=written) if is_shown else None
        shift = 0 if self._case.is_alike else sum(map(ord, agent.name))
        tokens = self._case.tokens
        shift = shift % len(tokens) if tokens else 0
        self._tokens = (*tokens[shift:], *tokens[:shift])
        self._next = _position(self._tokens, written[len(agent.begun) :])
        self._own = written[len(agent.begun) :]
        self._early = Usage(cached_tokens=0)
        self._num_read = 0
        self._is_stopped = False
        self._alarm: asyncio.Future[None] | None = None
        self._is_closed = False

    @property
    def reads_ahead(self) -> bool:
        return self._case.reads_ahead

    @property
    def prefetches(self) -> bool:
        return self._case.prefetch_s is not None

    async def warm(self) -> None:
        if self._case.warm_s:
            await asyncio.sleep(self._case.warm_s)

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        assert self._case.prefetch_s is not None
        sent = self._begin(sum(len(chunk.text) for chunk in chunks))
        sent.is_prefetch = True
        try:
            await asyncio.sleep(self._case.prefetch_s)
        finally:
            sent.ended_s = self._tape.now()
        self._early += Usage(prompt_tokens=sent.prompt_tokens, cached_tokens=0, completion_tokens=1)
        return sent.serial % 3 != 0

    async def read(self, chunks: Sequence[Chunk]) -> None:
        if self._context is not None:
            self._context.read(chunks)
        self._num_read += sum(len(chunk.text) for chunk in chunks)
        if self._case.read_s:
            await asyncio.sleep(self._case.read_s)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        case, player = self._case, self._player
        self._is_stopped = False
        number, player.num_calls = player.num_calls, player.num_calls + 1
        fault = player.faults.get(number)
        sent = self._begin(0)
        player.num_writing += 1
        self._tape.num_writing += 1
        most = player.shared.most_at_once
        most[case.name] = max(most.get(case.name, 0), player.num_writing)
        try:
            began = Began(layout="grouped", why="plays", prompt_tokens=sent.prompt_tokens, is_estimate=False)
            yield began
            if case.begins_twice:
                yield Began(layout="quoted", why="plays", prompt_tokens=sent.prompt_tokens, is_estimate=False)
            if fault is not None:
                raise_at_start(case.name, fault)
            if number in case.foreign:
                raise ValueError("a fault that is none of ours")
            async for item in self._say(limit, fault, sent):
                yield item
        except BackendError as exc:
            sent.is_refused = exc.is_refusal
            raise
        finally:
            player.num_writing -= 1
            self._tape.num_writing -= 1
            sent.ended_s = self._tape.now()

    async def _say(self, limit: int, fault: Fault | None, sent: Sent) -> AsyncGenerator[WriteItem, None]:
        """The call's items after Began."""
        case, count = self._case, 0
        start_s = self._tape.start_s + sent.at_s + case.first_token_s
        is_silent = fault is not None and fault.kind in SILENT_FAULTS
        hits_at = fault.after_tokens if fault is not None and fault.kind in LATE_FAULTS else None
        is_late, lag, reason = fault is not None and fault.kind == "no_done", case.lag, self._reason(limit, fault)
        if not is_silent:
            for cue in self._cues(limit):
                if hits_at is not None and not is_late and not cue.is_thinking and count + cue.num_tokens > hits_at:
                    assert fault is not None
                    await self._wait_until(math.inf if fault.kind == "hang" else start_s)
                    if not self._is_stopped:
                        raise error_of(case.name, fault)
                await self._wait_until(start_s + self._due_s(cue.last))
                if self._is_stopped:
                    if not lag:
                        reason = "stopped"
                        break
                    lag -= 1
                item = self._item(cue)
                count += 0 if cue.is_thinking else cue.num_tokens
                if item is None:
                    continue
                sent.said.append(item)
                yield item
                if isinstance(item, Delta) and not item.is_thinking and self._is_at_stop():
                    reason = "stop_string"
                    break
            else:
                if not count:
                    await self._wait_until(start_s + self._due_s(case.thoughts))
                    reason = "stopped" if self._is_stopped else reason
                if is_late and not self._is_stopped:
                    assert fault is not None
                    raise error_of(case.name, fault)
        else:
            await self._wait_until(start_s)
        sent.ended = self._ended(reason, sent, count)
        yield sent.ended

    def _cues(self, limit: int) -> Iterator[_Cue]:
        """The deltas that the call would bring: thoughts, words, then calls of tools where the agent has tools."""
        case, index, size = self._case, 0, 0
        sizes = case.batches
        for number in range(case.thoughts):
            yield _Cue(index, f"hm{number} ", 1, is_thinking=True)
            index += 1
        spelled: list[str] = []
        for token in self._spelled(limit):
            spelled.append(token)
            index += 1
            if len(spelled) == sizes[size % len(sizes)]:
                yield _Cue(index - 1, "".join(spelled), len(spelled))
                spelled, size = [], size + 1
        if spelled:
            yield _Cue(index - 1, "".join(spelled), len(spelled))
        if self._agent.extras.tools is not None:
            for piece in pieces_of(case.tool_calls):
                yield _Cue(index, "", 1, piece=piece)
                index += 1

    def _spelled(self, limit: int) -> Iterator[str]:
        """The next tokens, "" for one that spells nothing."""
        every, position = self._case.mute_every, self._next
        for number in range(limit):
            if position == len(self._tokens):
                return
            if every is not None and number % every == every - 1:
                yield ""
            else:
                yield self._tokens[position]
                position += 1

    def _item(self, cue: _Cue) -> Delta | ToolDelta | None:
        """The item of a cue, which is said now; None where its tokens spell nothing."""
        if cue.piece is not None:
            return cue.piece
        is_exact = self._case.usage == "exact"
        if not cue.is_thinking:
            self._own += cue.text
            if self._context is not None:
                self._context.wrote(cue.text)
            self._next = _advance(self._tokens, self._next, len(cue.text))
        if not cue.text:
            return None
        count = cue.num_tokens if is_exact else 1 if len(cue.text) <= _SHORT else max(1, len(cue.text) // 4)
        return Delta(cue.text, count, is_estimate=not is_exact, is_thinking=cue.is_thinking)

    def _reason(self, limit: int, fault: Fault | None) -> EndReason:
        if fault is not None and fault.kind == "length_at_once":
            return "length"
        if fault is not None and fault.kind == "empty":
            return "stop"
        if self._num_tokens(limit) > limit:
            return "limit"
        return "tool_calls" if self._agent.extras.tools is not None and self._case.tool_calls else self._case.end

    def _num_tokens(self, limit: int) -> int:
        """Tokens of all that is left to say, or more than the limit."""
        return sum(1 for _ in self._spelled(limit + 1))

    def _ended(self, reason: EndReason, sent: Sent, count: int) -> Ended:
        pieces = sum(isinstance(item, ToolDelta) for item in sent.said)
        thoughts = sum(isinstance(item, Delta) and item.is_thinking for item in sent.said)
        if pieces and reason != "tool_calls":
            reason = "tool_calls"
        usage = Usage(
            prompt_tokens=sent.prompt_tokens,
            cached_tokens=sent.prompt_tokens // 2 if self._case.says_cached else None,
            completion_tokens=count + thoughts,
        )
        early, self._early = self._early, Usage(cached_tokens=0)
        stop = next((stop for stop in self._agent.sampling.stop if stop in self._own), None)
        match self._case.usage:
            case "none":
                return Ended(reason=reason, stop_string=stop)
            case "rounded":
                rounded = (usage.completion_tokens + _ROUND // 2) // _ROUND * _ROUND
                usage = Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=rounded)
                return Ended(reason=reason, usage=usage + early, num_tokens=rounded, stop_string=stop)
            case "at_end":
                words = count - pieces
                return Ended(reason=reason, usage=usage + early, num_tokens=words, stop_string=stop)
            case _:
                return Ended(reason=reason, usage=usage + early, stop_string=stop)

    def stop(self) -> None:
        self._is_stopped = True
        if not self._case.lag and self._alarm and not self._alarm.done():
            self._alarm.set_result(None)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._tape.num_sessions -= 1
            if self._player.engine is not None:
                self._player.engine.close()
            if self._context is not None:
                messages = render(self._context, settle(self._agent.layout or "grouped", self._context)).messages
                self._tape.prompts.append((self._agent.name, "".join(message.content for message in messages)))

    def _begin(self, num_ahead: int) -> Sent:
        shared = self._tape.shared
        shared.called_s.setdefault(self._case.name, []).append(_now())
        size = self._num_read + num_ahead + len(self._own)
        prompt_tokens = 10 + len(self._agent.name) + size // 4
        sent = Sent(self._agent.name, self._case.name, shared.next_serial(), self._tape.now(), prompt_tokens)
        self._tape.sent.append(sent)
        return sent

    def _is_at_stop(self) -> bool:
        return any(stop in self._own for stop in self._agent.sampling.stop)

    def _due_s(self, index: int) -> float:
        pauses = sum(pause_s for token, pause_s in self._case.pauses if token <= index)
        return index * self._case.token_s + pauses

    async def _wait_until(self, due_s: float) -> None:
        """Until an instant or stop(); with the instant gone by, others get a turn."""
        loop = asyncio.get_running_loop()
        if self._is_stopped and not self._case.lag:
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


def _now() -> float:
    return asyncio.get_running_loop().time()


def _position(tokens: Sequence[str], written: str) -> int:
    """The token that continues a text: after those that it begins with, else after about as many as it has."""
    size = 0
    for index, token in enumerate(tokens):
        if size >= len(written):
            return index if size == len(written) else min(len(tokens), len(written) // 3)
        size += len(token)
    return len(tokens)


def _advance(tokens: Sequence[str], position: int, size: int) -> int:
    """The position after so many characters more."""
    while size > 0:
        size -= len(tokens[position])
        position += 1
    return position
