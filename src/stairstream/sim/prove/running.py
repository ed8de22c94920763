"""Plays a case: the real engine and the real wrappers, in virtual time."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying
from stairstream.core.events import Event, RunStarted
from stairstream.core.messages import question
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import Deadlock, run
from stairstream.sim.prove.case import PRICE, Case, Client, ModelCase
from stairstream.sim.prove.players import Player
from stairstream.sim.prove.recording import Queued, Recorded
from stairstream.sim.prove.tape import Tape

QUESTION = "why is the sky blue?"


@dataclass(slots=True)
class Played:
    """A case that was played: its events, what was taken down beside them, and what was left when it had ended.

    `heard` is what each client was given, `broken` the exception by which the run broke, if it did.
    """

    case: Case
    tape: Tape = field(default_factory=Tape)
    events: Sequence[Event] = ()
    texts: dict[str, str] = field(default_factory=dict)
    thoughts: dict[str, str] = field(default_factory=dict)
    heard: list[list[Event]] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    ended_s: float = 0.0
    broken: str | None = None


def play(case: Case) -> Played:
    """The whole run, and what is left of it."""
    played = Played(case)
    try:
        run(_play(case, played))
    except Deadlock as exc:
        played.broken = f"deadlock: {exc}"
    except Exception as exc:
        played.broken = f"{type(exc).__name__}: {exc}"
    return played


async def _play(case: Case, played: Played) -> None:
    tape, loop = played.tape, asyncio.get_running_loop()
    limited: list[tuple[str, Limited, int]] = []
    players = {name: Player(model, tape) for name, model in case.models.items()}
    backends = {name: wrap(case, player, tape, limited) for name, player in players.items()}
    played.heard = [[] for _ in case.clients]
    async with asyncio.TaskGroup() as clients:
        async with open_run(
            case.graph,
            question(QUESTION),
            backends,
            deadline_s=case.deadline_s,
            prices=dict.fromkeys(case.models, PRICE),
            max_cost=case.max_cost,
            pace=case.pace,
            written=case.written,
        ) as one:
            tape.events = one._log.events
            for client, heard in zip(case.clients, played.heard, strict=True):
                clients.create_task(_follow(one, client, heard))
            await _stay(case, one)
        played.ended_s = loop.time()
        played.left_over = open_calls(players, tape, limited)
    played.left_over += _alive(loop)
    played.events = [_without_id(event) for event in one.past]
    played.texts = {agent.name: one.log(agent.name).text() for agent in case.graph.agents}
    played.thoughts = {agent.name: one.thinking(agent.name).text() for agent in case.graph.agents}


async def _stay(case: Case, one: Run) -> None:
    """Until the run has ended, is left, or is shut down."""
    timer = None
    if case.shut_down_s is not None:
        timer = asyncio.get_running_loop().call_later(case.shut_down_s, one.shut_down)
    try:
        async with asyncio.timeout(case.leaves_s):
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


def wrap(case: Case, player: Player, tape: Tape, limited: list[tuple[str, Limited, int]]) -> Backend:
    """The wrappers in the order in which a configuration has them."""
    model: ModelCase = player.case
    backend: Backend = player
    if model.max_concurrency is not None or model.requests_per_minute is not None:
        inner = Limited(backend, max_concurrency=model.max_concurrency, requests_per_minute=model.requests_per_minute)
        if model.max_concurrency is not None:
            limited.append((model.name, inner, model.max_concurrency))
        backend = Queued(inner, tape)
    if model.hedge_after_s is not None:
        backend = Hedged(backend, hedge_after_s=model.hedge_after_s)
    if model.attempts > 1:
        backend = Retrying(backend, attempts=model.attempts, rng=random.Random(case.seed))
    return Recorded(backend, tape)


def open_calls(players: Mapping[str, Player], tape: Tape, limited: Sequence[tuple[str, Limited, int]]) -> list[str]:
    """Sessions, calls and permits that outlive the run, each in words."""
    found = [f"{tape.num_sessions} open sessions"] if tape.num_sessions else []
    found += [f"{player.num_writing} calls of {name}" for name, player in players.items() if player.num_writing]
    for name, backend, most in limited:
        if (free := backend._permits._free) != most:
            found.append(f"{most - free} permits of {name}")
    return found


def _alive(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Tasks and timers that outlive the run and its clients."""
    tasks = len(asyncio.all_tasks(loop)) - 1
    timers = sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]
    return [f"{tasks} tasks"] * (tasks > 0) + [f"{timers} timers"] * (timers > 0)


def _without_id(event: Event) -> Event:
    return (
        RunStarted(at_s=event.at_s, run_id="", agents=event.agents, answer=event.answer)
        if isinstance(event, RunStarted)
        else event
    )
