"""The calls of one endpoint, or of engines that share this machine, in virtual time: how fast each of them gets on.

A call waits for its prompt, and then for its tokens. Their times change whenever another call begins or ends, so they
are counted from the last change on.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stairstream.plan.endpoints import EndpointCosts


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
        prompts = sum(one.doing == "prompt" for one in self._calls)
        answers = sum(one.doing == "answer" for one in self._calls)
        for one in self._calls:
            one.set_unit(_unit_s(one, prompts, answers))


def _unit_s(work: "Work", prompts: int, answers: int) -> float:
    """Seconds for one second of a prompt alone, or for one token.

    Where prompts share the processor, each of its passes takes so many of their tokens, and one of each answer.
    """
    costs = work.costs
    if work.doing == "prompt":
        return 1.0 if costs.pass_tokens is None else prompts * (1 + answers / costs.pass_tokens)
    token_s = costs.token_s(max(1, answers), saturates=costs.pass_tokens is not None)
    if costs.pass_tokens is None or not prompts:
        return token_s
    return max(token_s, (costs.pass_tokens + answers) * costs.prefill_token_s)


class Work:
    """One call; `doing` is what its waits are for: nothing of the processor's, its prompt, or its answer."""

    def __init__(self, processor: Processor, costs: EndpointCosts) -> None:
        self.costs = costs
        self.doing = ""
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

    async def prompt(self, seconds: float) -> None:
        """A prompt that would take so long alone; the answer follows."""
        self._begin("prompt")
        await self.reach(seconds)
        self._begin("answer")

    async def reach(self, amount: float) -> None:
        """Until so many tokens of the answer are there after the first one; no longer than until `stop`."""
        if self.is_stopped:
            return
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
        due_s = self._since_s + (self._wanted - self._done) * self._unit_s
        self._timer = self._loop.call_at(due_s, self._ring)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
