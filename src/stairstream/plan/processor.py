"""The calls of one endpoint, or of engines that share this machine, in virtual time: how fast each of them gets on.

A call waits for its prompt, and then for its tokens. Their times change whenever another call begins or ends, so they
are counted from the last change on.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stairstream.plan.endpoints import EndpointCosts

_REFRESH = 32
"""After so many more tokens of an answer its context is counted anew."""


class Processor:
    """Calls that slow each other down as their costs say: all that decode, and where prompts share too, those also."""

    def __init__(self) -> None:
        self._calls: list[Work] = []

    @contextmanager
    def work(self, costs: EndpointCosts) -> Iterator["Work"]:
        """One call, for the length of the block."""
        work = Work(self, costs)
        self._calls.append(work)
        try:
            yield work
        finally:
            self._calls.remove(work)
            self.changed()

    def changed(self) -> None:
        """Tell all calls how fast they are from now on."""
        prompts = [one for one in self._calls if one.doing == "prompt"]
        answers = [one for one in self._calls if one.doing == "answer"]
        for one in self._calls:
            one.set_unit(_unit_s(one, prompts, answers))


def _unit_s(work: "Work", prompts: Sequence["Work"], answers: Sequence["Work"]) -> float:
    """Seconds for one second of a prompt alone, or for one token; 0 while it stands still.

    Where prompts share the processor, each of its passes takes so many tokens of the prompt that came first, and one
    of each answer.
    """
    costs, context = work.costs, sum(one.context for one in answers)
    if costs.pass_tokens is None:
        return 1.0 if work.doing == "prompt" else costs.token_s(len(answers), saturates=False, context=work.context)
    if work.doing == "prompt":
        return 1 / costs.prompts_share(len(answers), context) if work is prompts[0] else 0.0
    if prompts:
        return costs.pass_s(len(answers), context)
    return costs.token_s(len(answers), saturates=True, context=context)


class Work:
    """One call; `doing` is what its waits are for: nothing of the processor's, its prompt, or its answer.

    `context` are the tokens before its answer.
    """

    def __init__(self, processor: Processor, costs: EndpointCosts) -> None:
        self.costs = costs
        self.doing = ""
        self.context = 0
        self.is_stopped = False
        self._processor = processor
        self._loop = asyncio.get_running_loop()
        self._unit_s, self._done, self._since_s = 0.0, 0.0, 0.0
        self._wanted = 0.0
        self._alarm: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def sleep(self, seconds: float) -> None:
        """Time that no other call changes."""
        self._begin("")
        self._unit_s = 1.0
        await self.reach(seconds)

    async def prompt(self, seconds: float, tokens: int) -> None:
        """A prompt of so many tokens that would take so long alone; the answer follows."""
        self.context = tokens
        self._begin("prompt")
        await self.reach(seconds)
        self._begin("answer")

    async def reach(self, amount: float) -> None:
        """Until so many tokens of the answer are there after the first one; no longer than until `stop`."""
        if self.is_stopped:
            return
        if self.doing == "answer" and amount and amount % _REFRESH == 0:
            self.context += _REFRESH
            self._processor.changed()
        self._wanted = amount
        self._alarm = self._loop.create_future()
        self._set_timer()
        try:
            await self._alarm
        finally:
            self._clear_timer()
            self._alarm = None

    def stop(self) -> None:
        """End all waits, now and from now on."""
        self.is_stopped = True
        self._ring()

    def _ring(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def set_unit(self, unit_s: float) -> None:
        """From now on each unit takes so long."""
        if not self.doing or unit_s == self._unit_s:
            return
        now_s = self._loop.time()
        if self._unit_s:
            self._done += (now_s - self._since_s) / self._unit_s
        self._since_s, self._unit_s = now_s, unit_s
        if self._alarm is not None and not self._alarm.done():
            self._set_timer()

    def _begin(self, doing: str) -> None:
        self.doing = doing
        self._unit_s, self._done, self._since_s = 0.0, 0.0, self._loop.time()
        self._processor.changed()

    def _set_timer(self) -> None:
        self._clear_timer()
        if not self._unit_s:
            return
        due_s = self._since_s + (self._wanted - self._done) * self._unit_s
        self._timer = self._loop.call_at(due_s, self._ring)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
