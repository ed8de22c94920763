"""Retry, hedging and limits around a backend, in virtual time."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import pytest

from stairstream.backends.base import Backend, Session
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited, Permits
from stairstream.backends.retry import Retrying, pause_before
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.core.context import Context
from stairstream.core.errors import ModelUnusable, RateLimited
from stairstream.core.events import AgentEnded, Noted, RunEnded, StepStarted
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.metrics import first_token_s, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Began, Chunk, Delta, Ended, Note, WriteItem
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, play, scripted

pytestmark = pytest.mark.manners

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)


class Moody(ScriptedBackend):
    """Chooses a script anew for each session."""

    def __init__(self, choose: Callable[[int], Script], model: str) -> None:
        super().__init__(choose(0), model)
        self._choose = choose
        self._opened = 0

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self.script = self._choose(self._opened)
        self._opened += 1
        self.num_sessions += 1
        return _OwnScript(self, Context(agent=agent, conversation=conversation, written=written), self.script)


class _OwnScript(ScriptedSession):
    def __init__(self, backend: ScriptedBackend, context: Context, script: Script) -> None:
        own = ScriptedBackend(script, backend.model)
        own.calls = backend.calls
        super().__init__(own, context)
        self._parent = backend

    async def aclose(self) -> None:
        if not self._is_closed:
            self._parent.num_sessions -= 1
        await super().aclose()


def late_then_quick(words: tuple[str, ...], late_s: float) -> Callable[[int], Script]:
    return lambda opened: Script(words=words, first_token_s=0.5 if opened else late_s, token_s=0.25)


def test_second_try_wins_when_the_first_token_is_late() -> None:
    words = numbered_words("agg", 16)
    moody = Moody(late_then_quick(words, 64), "agg")
    backends: dict[str, Backend] = {**scripted(), "agg": Hedged(moody, hedge_after_s=1)}
    one, events = play(mixture(QUICK), backends)
    assert one.answer == "".join(words)
    assert first_token_s(events, "agg") == 1.25 + 1 + 0.5
    assert [event.note.kind for event in events if isinstance(event, Noted)] == ["hedge"]
    assert moody.num_sessions == 0
    (usage,) = (agent.usage for agent in summarize(events).agents if agent.name == "agg")
    assert usage.prompt_tokens == sum(call.prompt_tokens for call in moody.calls)


def test_first_try_wins_if_it_speaks_first_after_all() -> None:
    words = numbered_words("agg", 16)
    moody = Moody(lambda opened: Script(words=words, first_token_s=64 if opened else 1.25, token_s=0.25), "agg")
    one, events = play(mixture(QUICK), {**scripted(), "agg": Hedged(moody, hedge_after_s=1)})
    assert one.answer == "".join(words)
    assert first_token_s(events, "agg") == 1.25 + 1.25
    assert moody.num_sessions == 0


@pytest.mark.one_by_one
def test_quick_call_is_never_hedged() -> None:
    backends = scripted()
    play(mixture(QUICK), {**backends, "agg": Hedged(backends["agg"], hedge_after_s=1)})
    assert backends["agg"].num_sessions == 0
    limits = [call.limit for call in backends["agg"].calls]
    assert len(limits) == 3


def test_winner_after_updates_has_every_word_once() -> None:
    words = numbered_words("agg", 40)
    moody = Moody(lambda opened: Script(words=words, first_token_s=2 if opened % 2 == 0 else 0.5, token_s=0.25), "agg")
    one, _ = play(mixture(QUICK), {**scripted(length=40), "agg": Hedged(moody, hedge_after_s=1)})
    assert one.answer == "".join(words)
    assert moody.num_sessions == 0


def test_failing_first_try_leaves_the_race_to_the_second() -> None:
    words = numbered_words("agg", 16)
    broken = Fault(kind="cut", after_tokens=0)

    def choose(opened: int) -> Script:
        return Script(words=words, first_token_s=0.75 if opened else 1.25, fault=None if opened else broken)

    one, _ = play(mixture(QUICK), {**scripted(), "agg": Hedged(Moody(choose, "agg"), hedge_after_s=1)})
    assert one.answer == "".join(words)


def test_leaving_in_mid_race_closes_both() -> None:
    moody = Moody(lambda opened: Script(words=("x",), first_token_s=64), "agg")

    async def leave() -> None:
        async with open_run(mixture(QUICK), ASK, {**scripted(), "agg": Hedged(moody, hedge_after_s=1)}):
            await asyncio.sleep(8)

    run(leave())
    assert moody.num_sessions == 0


def test_concurrency_of_one_is_no_deadlock_and_upstream_goes_first() -> None:
    shared = ScriptedBackend(Script(words=numbered_words("w", 8), first_token_s=0.5, token_s=0.25), "m")
    graph = mixture(PRESETS["balanced"])
    graph = replace(graph, agents=tuple(replace(agent, model="m") for agent in reversed(graph.agents)))
    one, events = play(graph, {"m": Limited(shared, max_concurrency=1)})
    assert one.answer == "".join(shared.script.words)
    assert [call.agent for call in shared.calls][:3] == ["p3", "p2", "p1"]
    assert summarize(events).reason == "stop"


def test_permits_are_served_by_rank_and_survive_a_leaver() -> None:
    async def main() -> list[str]:
        permits, order = Permits(1), []

        async def use(name: str, rank: int) -> None:
            async with permits.hold(rank):
                order.append(name)
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(use("first", 5))
            await asyncio.sleep(0.5)
            tasks.create_task(use("downstream", 2))
            leaver = tasks.create_task(use("leaver", 0))
            tasks.create_task(use("upstream", 1))
            await asyncio.sleep(0.25)
            leaver.cancel()
        return order

    assert run(main()) == ["first", "upstream", "downstream"]


@pytest.mark.one_by_one
def test_requests_per_minute_space_the_calls() -> None:
    backends = scripted()
    slow = {name: Limited(backend, requests_per_minute=60) for name, backend in backends.items()}
    _, events = play(mixture(QUICK), slow)
    starts = [event.at_s for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    calls = [call.at_s for call in backends["agg"].calls]
    assert all(later - earlier >= 1 for earlier, later in pairwise(calls))
    assert starts[0] == 1.25


@pytest.mark.parametrize("start_s", [0.1, 1 / 3, 21.25])
@pytest.mark.parametrize(("per_minute", "due_s"), [(6, [0, 10, 20, 30]), (180, [0, 0, 0, 1 / 3])])
def test_rate_lets_a_second_s_worth_go_at_once_and_spaces_the_rest(
    per_minute: float, due_s: list[float], start_s: float
) -> None:
    limited = Limited(ScriptedBackend(Script(words=("x",)), "m"), requests_per_minute=per_minute)

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(start_s)
        times = []
        for _ in due_s:
            async with limited.hold(0):
                times.append(loop.time() - start_s)
        return times

    assert run(main()) == pytest.approx(due_s)


@pytest.mark.one_by_one
def test_waiting_for_a_permit_is_no_breach_of_the_first_token_deadline() -> None:
    shared = ScriptedBackend(Script(words=numbered_words("w", 8), first_token_s=0.5, token_s=0.25), "m")
    graph = mixture(PRESETS["wait"])
    agents = tuple(replace(agent, model="m", first_token_s=1) for agent in graph.agents)
    _, events = play(replace(graph, agents=agents), {"m": Limited(shared, max_concurrency=1)})
    assert all(event.reason == "stop" for event in events if isinstance(event, AgentEnded | RunEnded))


@pytest.mark.parametrize(("attempt", "low", "high"), [(1, 0.25, 0.5), (2, 0.5, 1), (10, 15, 30)])
def test_pauses_double_with_jitter_up_to_half_a_minute(attempt: int, low: float, high: float) -> None:
    pauses = [pause_before(attempt, None, random.Random(seed)) for seed in range(50)]
    assert low <= min(pauses) < max(pauses) <= high


@pytest.mark.parametrize(("asked_s", "most_s"), [(7, 7.7), (60, 61)])
def test_retry_after_is_honoured_and_a_little_more(asked_s: float, most_s: float) -> None:
    pauses = [pause_before(1, asked_s, random.Random(seed)) for seed in range(50)]
    assert asked_s <= min(pauses) < max(pauses) <= most_s


async def write(backend: Backend, stop_at_s: float | None = None) -> list[WriteItem]:
    """What one write yields, with a stop at that time."""
    session = await backend.open(Agent(name="a", model="m"), ASK)
    if stop_at_s is not None:
        asyncio.get_running_loop().call_later(stop_at_s, session.stop)
    return [item async for item in session.write(100)]


def end_of(items: list[WriteItem]) -> Ended:
    assert isinstance(items[-1], Ended)
    return items[-1]


def failing(kind: FaultKind, calls: int | None = 1, retry_after_s: float | None = None) -> ScriptedBackend:
    fault = Fault(kind=kind, calls=calls, retry_after_s=retry_after_s)
    return ScriptedBackend(Script(words=("a", " b"), first_token_s=0.5, fault=fault), "m")


def retrying(inner: Backend) -> Retrying:
    return Retrying(inner, attempts=3, rng=random.Random(0))


def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    async def main() -> tuple[str, float]:
        with pytest.raises(RateLimited) as caught:
            await write(retrying(inner))
        return str(caught.value), asyncio.get_running_loop().time()

    inner = failing("status_429", retry_after_s=3600)
    text, at_s = run(main())
    assert "3600 s" in text
    assert (len(inner.calls), at_s) == (1, 0)


@pytest.mark.parametrize(("kind", "counted"), [("empty", 3), ("status_500", 3), ("status_429", 1)])
def test_tries_that_failed_are_counted_unless_they_were_refused(kind: FaultKind, counted: int) -> None:
    inner = failing(kind, calls=2)
    items = run(write(retrying(inner)))
    assert len(inner.calls) == 3
    told = [item.usage for item in items if isinstance(item, Note | Ended) and item.usage is not None]
    assert sum(usage.prompt_tokens for usage in told) == sum(call.prompt_tokens for call in inner.calls[:counted])


def test_a_stop_while_a_call_waits_for_its_permit_ends_the_wait() -> None:
    async def main() -> tuple[list[WriteItem], float]:
        inner = ScriptedBackend(Script(words=("a",)), "m")
        limited = Limited(inner, max_concurrency=1)
        async with limited.hold(0):
            items = await write(limited, stop_at_s=2)
        assert inner.calls == []
        assert isinstance((await write(limited))[0], Began)  # the permit is free again
        return items, asyncio.get_running_loop().time()

    assert run(main()) == ([Ended(reason="stopped")], 2)


def test_a_stop_in_the_moment_of_the_permit_counts() -> None:
    async def main() -> list[WriteItem]:
        limited = Limited(ScriptedBackend(Script(words=("a",)), "m"), max_concurrency=1)
        session = await limited.open(Agent(name="a", model="m"), ASK)
        async with limited.hold(0):
            items = asyncio.create_task(write_all(session))
            await asyncio.sleep(1)
        session.stop()
        return await items

    assert run(main()) == [Ended(reason="stopped")]


def test_a_stop_while_a_call_waits_for_its_rate_ends_the_wait() -> None:
    async def main() -> float:
        limited = Limited(failing("status_500"), requests_per_minute=6)
        assert end_of(await write(retrying(limited), stop_at_s=3)).reason == "stopped"
        return asyncio.get_running_loop().time()

    assert run(main()) == 3


def test_a_stop_between_two_tries_is_kept() -> None:
    async def main() -> list[WriteItem]:
        session = await retrying(failing("status_500")).open(Agent(name="a", model="m"), ASK)
        items = []
        async for item in session.write(100):
            items.append(item)
            if isinstance(item, Note):
                session.stop()
        return items

    assert end_of(run(main())).reason == "stopped"


class OneFails(ScriptedBackend):
    """A backend of which the second session fails, when it is opened or when it reads."""

    def __init__(self, when: str) -> None:
        super().__init__(Script(words=("a", " b"), first_token_s=3), "m")
        self._when = when
        self._num_opened = 0

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self._num_opened += 1
        if self._num_opened == 2 and self._when == "open":
            raise ModelUnusable("full")
        session = await super().open(agent, conversation, written)
        return session if self._num_opened == 1 else _ReadsNothing(self, Context(agent=agent, conversation=ASK))


class _ReadsNothing(ScriptedSession):
    async def read(self, chunks: Sequence[Chunk]) -> None:
        raise ModelUnusable("full")


@pytest.mark.parametrize("when", ["open", "read"])
def test_a_second_try_that_cannot_begin_leaves_the_first_alone(when: str) -> None:
    inner = OneFails(when)

    async def main() -> str:
        session = await Hedged(inner, hedge_after_s=1).open(Agent(name="a", model="m", reads=("p",)), ASK)
        await session.read([Chunk(agent="p", text="x", is_final=True)])
        text = "".join([item.text async for item in session.write(100) if isinstance(item, Delta)])
        await session.aclose()
        return text

    assert run(main()) == "a b"
    assert inner.num_sessions == 0


def test_a_stop_that_is_said_twice_is_one() -> None:
    async def main() -> list[WriteItem]:
        limited = Limited(ScriptedBackend(Script(words=("a",)), "m"), max_concurrency=1)
        session = await limited.open(Agent(name="a", model="m"), ASK)
        async with limited.hold(0):
            items = asyncio.create_task(write_all(session))
            await asyncio.sleep(1)
            for turns in range(3):  # at whatever turn of the loop the second comes
                asyncio.get_running_loop().call_later(0, _after_turns, turns, session.stop)
            return await items

    def _after_turns(turns: int, call: Callable[[], None]) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(_after_turns, turns - 1, call)
        else:
            call()

    assert run(quietly(main())) == [Ended(reason="stopped")]


def test_whoever_leaves_in_the_moment_of_its_turn_by_the_rate_leaves_quietly() -> None:
    async def main() -> float:
        limited = Limited(ScriptedBackend(Script(words=("a",)), "m"), requests_per_minute=60)
        async with limited.hold(0):
            pass
        leaver = asyncio.create_task(write_all(await limited.open(Agent(name="a", model="m"), ASK)))
        asyncio.get_running_loop().call_at(1, leaver.cancel)  # its turn comes at 1, too
        await asyncio.wait([leaver])
        assert leaver.cancelled()
        return asyncio.get_running_loop().time()

    assert run(quietly(main())) == 1


async def write_all(session: Session) -> list[WriteItem]:
    return [item async for item in session.write(100)]


T = TypeVar("T")


async def quietly(main: Coroutine[None, None, T]) -> T:
    """Nothing goes wrong that only the loop would hear of."""
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    result = await main
    assert problems == []
    return result


async def hedge(moody: Moody, permits: int | None = None) -> tuple[Limited, Session]:
    limited = Limited(moody, max_concurrency=permits)
    return limited, await Hedged(limited, hedge_after_s=1).open(Agent(name="a", model="m"), ASK)


def test_a_second_try_that_fails_first_is_closed_when_the_race_is_left() -> None:
    broken = Fault(kind="status_500")
    moody = Moody(lambda opened: Script(words=("x",), first_token_s=64, fault=broken if opened else None), "m")

    async def main() -> None:
        _, session = await hedge(moody)
        writing = asyncio.create_task(write_all(session))
        await asyncio.sleep(8)
        writing.cancel()
        await asyncio.wait([writing])
        await session.aclose()

    run(main())
    assert moody.num_sessions == 0


def test_leaving_before_the_first_word_of_the_second_try_gives_its_permit_back() -> None:
    moody = Moody(late_then_quick(("x", " y"), 64), "m")

    async def main() -> None:
        limited, session = await hedge(moody, permits=2)
        items = session.write(100)
        while not isinstance(await anext(items), Note):
            pass
        await items.aclose()
        async with asyncio.timeout(0), limited.hold(0), limited.hold(0):  # both are free, at once
            pass
        await session.aclose()

    run(main())
    assert moody.num_sessions == 0


class Sluggish(Moody):
    """The first session hears no stop; the second takes 2 s to open, or to begin its write."""

    def __init__(self, slow: str) -> None:
        super().__init__(lambda opened: Script(words=("x",) * 9, first_token_s=1 if opened else 8, token_s=1), "m")
        self._slow = slow

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        is_second = self._opened == 1
        if is_second and self._slow == "open":
            await asyncio.sleep(2)
        session = await super().open(agent, conversation, written)
        if not is_second:
            session.stop = lambda: None  # type: ignore[method-assign]
        elif self._slow == "write":
            session.write = _late(session.write)  # type: ignore[method-assign, assignment]
        return session


def _late(write: Callable[[int], AsyncGenerator[WriteItem, None]]) -> Callable[[int], AsyncGenerator[WriteItem, None]]:
    async def late(limit: int) -> AsyncGenerator[WriteItem, None]:
        await asyncio.sleep(2)
        async for item in write(limit):
            yield item

    return late


@pytest.mark.parametrize(("slow", "num_calls", "num_words"), [("open", 1, 9), ("write", 2, 0)])
def test_a_stop_holds_for_a_second_try_that_has_not_begun(slow: str, num_calls: int, num_words: int) -> None:
    moody = Sluggish(slow)

    async def main() -> list[WriteItem]:
        _, session = await hedge(moody)
        asyncio.get_running_loop().call_at(2, session.stop)
        return await write_all(session)

    assert sum(isinstance(item, Delta) for item in run(main())) == num_words
    assert len(moody.calls) == num_calls


def test_a_second_try_that_is_stopped_before_its_permit_wins_no_race() -> None:
    moody = Sluggish("neither")

    async def main() -> list[WriteItem]:
        _, session = await hedge(moody, permits=1)
        asyncio.get_running_loop().call_at(2, session.stop)
        return await write_all(session)

    items = run(main())
    assert sum(isinstance(item, Delta) for item in items) == 9
    assert not any(isinstance(item, Note) for item in items)
    assert len(moody.calls) == 1
