"""Runs of several systems on the same questions. The event loop is the only clock: in real time and in virtual time
this is the same code.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count

from stairstream.core.costs import Price, cost_of_agent
from stairstream.core.metrics import Summary, summarize
from stairstream.core.session import Usage
from stairstream.engine.run import Run
from stairstream.measure.samples import Sample, lanes_of
from stairstream.measure.workload import Ask
from stairstream.plan.arrivals import Arrivals, Closed, times_s


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system that answers: `open` opens its run on a question; `prices` are by the models of that run's graph."""

    name: str
    open: Callable[[Ask], AbstractAsyncContextManager[Run]]
    prices: Mapping[str, Price]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A measurement: every system answers all questions, `repetitions` times after `warm_ups` that do not count."""

    systems: Sequence[System]
    asks: Sequence[Ask]
    arrivals: Arrivals
    repetitions: int = 3
    warm_ups: int = 1
    seed: int = 0

    @property
    def num_runs(self) -> int:
        """Runs of the whole measurement, the warm-up included."""
        return len(self.systems) * (self.repetitions * len(self.asks) + self.warm_ups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Questions that one system answers before another one does."""

    system: System
    repetition: int
    asks: Sequence[Ask]


async def measure(plan: Plan, advance: Callable[[int], None] = lambda _: None) -> list[Sample]:
    """All samples, in the order of their starts; `advance` is told of each run that has ended."""
    start_s = asyncio.get_running_loop().time()
    for number in range(plan.warm_ups):
        for system in plan.systems:
            await _sample(system, plan.asks[number % len(plan.asks)], 0, start_s)
            advance(1)
    found: list[Sample] = []
    for number, block in enumerate(blocks_of(plan)):
        rng = random.Random(f"{plan.seed} {number // len(plan.systems)}")  # systems meet the same arrivals

        async def answer(ask: Ask, block: Block = block) -> None:
            found.append(await _sample(block.system, ask, block.repetition, start_s))
            advance(1)

        await _answer(block, plan.arrivals, rng, answer)
    return sorted(found, key=lambda one: one.at_s)


def blocks_of(plan: Plan) -> Iterator[Block]:
    """Systems in turn, another one first each time, so that what drifts meets all of them.

    Runs that overlap are always of one system, which so meets the load that it makes itself. Where none overlap,
    systems take turns at each question.
    """
    alone = isinstance(plan.arrivals, Closed) and plan.arrivals.users == 1
    turns = count()
    for repetition in range(plan.repetitions):
        for asks in [[ask] for ask in plan.asks] if alone else [plan.asks]:
            first = next(turns) % len(plan.systems)
            for system in (*plan.systems[first:], *plan.systems[:first]):
                yield Block(system=system, repetition=repetition, asks=asks)


async def _answer(
    block: Block, arrivals: Arrivals, rng: random.Random, answer: Callable[[Ask], Coroutine[None, None, None]]
) -> None:
    """Answers the questions of a block as they arrive; over when all are answered."""
    waiting = iter(block.asks)

    async def answer_in_turn(think_s: float) -> None:
        for ask in waiting:  # shared by all users: the next question goes to the next one who is free
            await answer(ask)
            await asyncio.sleep(think_s)

    async with asyncio.TaskGroup() as tasks:
        if isinstance(arrivals, Closed):
            for _ in range(arrivals.users):
                tasks.create_task(answer_in_turn(arrivals.think_s))
            return
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for ask, at_s in zip(block.asks, times_s(arrivals, rng), strict=False):
            await asyncio.sleep(start_s + at_s - loop.time())
            tasks.create_task(answer(ask))


async def _sample(system: System, ask: Ask, repetition: int, start_s: float) -> Sample:
    at_s = asyncio.get_running_loop().time() - start_s
    async with system.open(ask) as run:
        events = [event async for event in run.events()]
        summary, text, graph = summarize(events), run.answer, run.graph
    costs = [cost_of_agent(events, agent, system.prices) for agent in graph.agents]
    used = _usage_of(summary)
    return Sample(
        system=system.name,
        question=ask.id,
        repetition=repetition,
        at_s=at_s,
        first_token_s=summary.first_token_s,
        longest_gap_s=summary.longest_gap_s,
        stall_s=summary.stall_s,
        total_s=summary.total_s,
        seen_share=summary.seen_share,
        calls=sum(one.steps for one in summary.agents),
        prompt_tokens=used.prompt_tokens,
        cached_tokens=used.cached_tokens,
        completion_tokens=used.completion_tokens,
        cost=None if None in costs else sum(one for one in costs if one is not None),
        ended=summary.reason,
        degraded=list(summary.degraded),
        error=summary.error,
        text=text,
        lanes=lanes_of(events),
    )


def _usage_of(summary: Summary) -> Usage:
    return sum((one.usage for one in summary.agents), start=Usage(cached_tokens=0))
