"""The doing and recording half of a step: one write of a session, its deadlines, and what comes of it as events."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import assert_never

from stairstream.backends.base import Session, Take
from stairstream.core.errors import MalformedAnswer, StairstreamError, TooSlow, as_failure
from stairstream.core.events import Called, Event, LayoutChosen, Noted
from stairstream.core.graph import Agent
from stairstream.core.session import Began, Delta, Ended, Layout, Note, ToolDelta, WriteItem
from stairstream.engine.demand import Demand
from stairstream.engine.output import Output
from stairstream.engine.step import Step
from stairstream.engine.surroundings import Surroundings

Look = Callable[[Began | None], None]
"""Called when a call is in flight, with its first item, and when a step has its `look_at_tokens`, with None."""


class Writer:
    """Puts an agent's words into its output, and tells of them."""

    def __init__(self, agent: Agent, output: Output, surroundings: Surroundings) -> None:
        self._agent = agent
        self._output = output
        self._clock = surroundings.clock
        self._emit = surroundings.emit
        self._demand = surroundings.demand
        self._layout: tuple[Layout, str] | None = None

    async def write(self, session: Session, step: Step, model: str, look: "Look") -> Ended:
        """One write of the session to its end. Raises a BackendError that names the model.

        `look` is held no longer than the call: an agent that its own parts held would be left to the garbage collector.
        """
        silence = _Silence()
        session.hand_to(self._taker(step, silence))
        try:
            async with silence.timeout, aclosing(session.write(step.limit)) as items:
                ended = await self._relay(items, session, step, silence, model, look)
        except TimeoutError:
            where = " in mid-answer" if step.tokens or self._output.has_called else ""
            raise TooSlow(f"{model} said nothing for {silence.allowed_s:g} s{where}") from None
        except StairstreamError:
            raise
        except Exception as exc:
            raise as_failure(exc, model) from exc
        finally:
            session.hand_to(None)
            silence.close()
        if (stop := self._output.stop_string) is not None:
            return replace(ended, reason="stop_string", stop_string=stop)
        return ended

    async def _relay(
        self,
        items: AsyncGenerator[WriteItem, None],
        session: Session,
        step: Step,
        silence: "_Silence",
        model: str,
        look: "Look",
    ) -> Ended:
        agent, ended = self._agent, None
        async for item in items:
            if self._output.stop_string is not None and not isinstance(item, Ended):
                continue
            match item:
                case Delta():
                    self._append(item, step, model)
                    if step.tokens >= step.look_at_tokens:
                        look(None)
                    if self._output.stop_string is not None:
                        session.stop()
                    if silence.allowed_s is not None or agent.gap_s is not None:
                        silence.allow(agent.gap_s)
                case ToolDelta():
                    self._call(item, step)
                    silence.allow(agent.gap_s)
                case Began():
                    # waiting for a permit is not the endpoint's fault: its time runs from here
                    silence.allow(agent.first_token_s)
                    self._begin(item, step)
                    look(item)
                case Note():
                    if item.kind == "retry":
                        silence.allow(None)
                        step.began = None
                    if item.usage is not None:
                        step.spent += item.usage
                    self._emit(Noted(at_s=self._clock(), agent=agent.name, note=item))
                case Ended():
                    ended = item
                case never:
                    assert_never(never)
            if self._demand.is_held and ended is None:
                await self._wait_for_readers(silence)
        assert ended is not None, "a session ends each write with Ended"
        return ended

    def _taker(self, step: Step, silence: "_Silence") -> Take | None:
        """Takes words that need only be shown, and wake nobody; None where any may end the answer."""
        if self._agent.sampling.stop:
            return None
        return _Taker(self._agent.gap_s, self._output, self._clock, self._emit, self._demand, step, silence).take

    async def _wait_for_readers(self, silence: "_Silence") -> None:
        """Take nothing of the call meanwhile: its endpoint's silence is then ours, and counts from the end of it."""
        allowed_s = silence.allowed_s
        silence.allow(None)
        self._output.rest()
        await self._demand.wait()
        self._output.ask(self._clock())
        silence.allow(allowed_s)

    def _append(self, delta: Delta, step: Step, model: str) -> None:
        for event in self._output.append(delta, self._clock()):
            self._emit(event)
        if delta.is_thinking:
            self._think(delta.num_tokens, step, model)
        else:
            step.tokens += delta.num_tokens

    def _think(self, num_tokens: int, step: Step, model: str) -> None:
        """Count thoughts: a call that thinks without end is a failure of its model."""
        step.thinking_tokens += num_tokens
        most = self._agent.most_thoughts
        if step.thinking_tokens > most:
            raise MalformedAnswer(f"{model}: its thoughts took all {most} tokens; raise thinking_tokens")

    def _call(self, delta: ToolDelta, step: Step) -> None:
        for event in self._output.release(self._clock()):  # words come before calls
            self._emit(event)
        self._output.has_called = True
        step.call_tokens += delta.num_tokens
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

    def _begin(self, began: Began, step: Step) -> None:
        step.began = began
        if (began.layout, began.why) != self._layout:
            self._layout = began.layout, began.why
            self._emit(LayoutChosen(at_s=self._clock(), agent=self._agent.name, layout=began.layout, why=began.why))


class _Taker:
    """One object with all that a token needs: the cells of a closure would be as many, far apart in memory."""

    __slots__ = ("_clock", "_demand", "_emit", "_gap_s", "_output", "_silence", "_step")

    def __init__(
        self,
        gap_s: float | None,
        output: Output,
        clock: Callable[[], float],
        emit: Callable[[Event], None],
        demand: Demand,
        step: Step,
        silence: "_Silence",
    ) -> None:
        self._gap_s, self._output, self._clock, self._emit = gap_s, output, clock, emit
        self._demand, self._step, self._silence = demand, step, silence

    def take(self, delta: Delta) -> bool:
        """A Take."""
        step, silence = self._step, self._silence
        is_looked_at = step.tokens + delta.num_tokens >= step.look_at_tokens
        if delta.is_thinking or is_looked_at or self._demand.is_held:
            return False
        for event in self._output.append(delta, self._clock()):
            self._emit(event)
        step.tokens += delta.num_tokens
        if silence.allowed_s is not None or self._gap_s is not None:
            silence.allow(self._gap_s)
        return True


class _Silence:
    """Seconds that a call may be silent from now on, and the timer that ends it.

    A timer that is early looks again later: no token needs one of its own.
    """

    __slots__ = ("_loop", "_timer", "_until", "allowed_s", "timeout")

    def __init__(self) -> None:
        self.timeout = asyncio.timeout(None)
        self.allowed_s: float | None = None
        self._loop = asyncio.get_running_loop()
        self._until = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def allow(self, allowed_s: float | None) -> None:
        """Count from now; None: for ever. What comes in the very moment in which it was too long is in time."""
        if self._timer is not None and allowed_s is not None and allowed_s == self.allowed_s:
            self._until = self._loop.time() + allowed_s  # as after nearly every token: the timer is early
            return
        if self.timeout.expired():
            return
        if self.timeout.when() is not None:
            self.timeout.reschedule(None)
        self.allowed_s = allowed_s
        self._until = math.inf if allowed_s is None else self._loop.time() + allowed_s
        if self._until != math.inf and (self._timer is None or self._until < self._timer.when()):
            self._set_timer()

    def close(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._until, self._on_time, self._until)

    def _on_time(self, at_s: float) -> None:
        self._timer = None
        if self._until <= at_s:
            self.timeout.reschedule(at_s)
        elif self._until != math.inf:
            self._set_timer()
