"""Plays a case: the real engine and the real wrappers, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from stairstream.core.events import Event, RunStarted
from stairstream.engine.run import Run
from stairstream.sim.clock import Deadlock, run
from stairstream.sim.prove.case import Case, Client
from stairstream.sim.prove.played import Played
from stairstream.sim.prove.stage import Stage, open_case
from stairstream.sim.prove.takeovers import survive
from stairstream.sim.prove.tape import TAPE, Tape


def play(case: Case) -> Played:
    """The whole run, those that are there at the same time, and what is left of them."""
    first, *others = [Played(one) for one in case.runs]
    first.others = others
    try:
        run(_play(first))
    except Deadlock as exc:
        first.broken = f"deadlock: {exc}"
    except Exception as exc:
        first.broken = f"{type(exc).__name__}: {exc}"
    return first


async def _play(first: Played) -> None:
    if first.case.deaths is not None:
        await survive(first, first.case.deaths)
    else:
        company = _Company(Stage(first.case), len(first.runs))
        async with asyncio.TaskGroup() as runs:
            for one in first.runs:
                runs.create_task(_come(one, company))
        first.left_over += company.left_over
    first.left_over += _alive(asyncio.get_running_loop())
    for one in first.runs:
        one.events = [_without_id(event) for event in one.events]


@dataclass(slots=True)
class _Company:
    """The runs that are there at the same time; the last one to go sees what is left."""

    stage: Stage
    num_runs: int
    left_over: tuple[str, ...] = ()

    def leave(self) -> None:
        """One run is over."""
        self.num_runs -= 1
        if not self.num_runs:
            self.left_over = tuple(self.stage.left_over())


async def _come(played: Played, company: _Company) -> None:
    """One run among others."""
    case, tape = played.case, Tape(shared=company.stage.shared)
    played.tape, played.heard = tape, [[] for _ in case.clients]
    TAPE.set(tape)
    if case.comes_s:
        await asyncio.sleep(case.comes_s)
    async with asyncio.TaskGroup() as clients:
        async with AsyncExitStack() as stack:
            if (one := await _enter(stack, played, company.stage)) is not None:
                tape.start_s, tape.events = one._start, one._log.events
                for client, heard in zip(case.clients, played.heard, strict=True):
                    clients.create_task(_follow(one, client, heard))
                await _stay(case, one)
        played.ended_s = tape.now()
        played.left_over += tape.left_over()
        company.leave()
    if one is not None:
        played.events = one.past
        played.texts = {agent.name: one.log(agent.name).text() for agent in case.graph.agents}
        played.thoughts = {agent.name: one.thinking(agent.name).text() for agent in case.graph.agents}


async def _enter(stack: AsyncExitStack, played: Played, stage: Stage) -> Run | None:
    """The run once it has its slots; None if it gives up before."""
    try:
        async with _limit(played.case.gives_up_s, played.case.turns):
            return await stack.enter_async_context(open_case(played.case, stage))
    except TimeoutError:
        played.gave_up_s = asyncio.get_running_loop().time()
        return None


@asynccontextmanager
async def _limit(most_s: float | None, turns: int) -> AsyncIterator[None]:
    """Raises TimeoutError in the block so many turns of the loop after its time."""
    loop = asyncio.get_running_loop()

    def count_down(turns: int) -> None:
        if turns:
            loop.call_soon(count_down, turns - 1)
        elif not is_over:
            limit.reschedule(loop.time())

    is_over = False
    async with asyncio.timeout(None) as limit:
        timer = None if most_s is None else loop.call_later(most_s, count_down, turns)
        try:
            yield
        finally:
            is_over = True
            if timer is not None:
                timer.cancel()


async def _stay(case: Case, one: Run) -> None:
    """Until the run has ended, is left, or is shut down."""
    timer = None
    if case.shut_down_s is not None:
        timer = asyncio.get_running_loop().call_later(case.shut_down_s, one.shut_down)
    try:
        async with _limit(case.leaves_s, case.turns):
            await one.wait_ended()
    except TimeoutError:
        pass
    finally:
        if timer is not None:
            timer.cancel()


async def _follow(one: Run, client: Client, heard: list[Event]) -> None:
    """Read events as this client does."""
    await asyncio.sleep(client.comes_s)
    leaves_after = client.leaves_after
    while True:
        async with aclosing(one.batches(len(heard))) as batches:  # type: ignore[type-var]
            async for batch in batches:
                heard.extend(batch)
                if client.pause_s:
                    await asyncio.sleep(client.pause_s)
                if leaves_after is not None and len(heard) >= leaves_after:
                    break
            else:
                return
        leaves_after = None
        await asyncio.sleep(client.away_s)


def _alive(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Tasks and timers that outlive the runs and their clients."""
    tasks = len(asyncio.all_tasks(loop)) - 1
    timers = sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]
    return [f"{tasks} tasks"] * (tasks > 0) + [f"{timers} timers"] * (timers > 0)


def _without_id(event: Event) -> Event:
    return replace(event, run_id="") if isinstance(event, RunStarted) else event
