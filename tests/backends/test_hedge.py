"""Hedging around a backend, in virtual time: who wins, what is charged, and that the loser is let go."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest

from stairstream.backends.base import Backend, Session
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.core.context import Context
from stairstream.core.errors import ModelUnusable, RateLimited
from stairstream.core.events import Noted
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.metrics import first_token_s, summarize
from stairstream.core.policy import Policy
from stairstream.core.session import Chunk, Delta, Ended, Note, Usage, WriteItem
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.backends.moody import Moody, Telling, Told, began, write_all
from tests.engine.staircase import ASK, mixture, play, scripted

pytestmark = pytest.mark.manners


QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)


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


AGAIN = Note(kind="retry", text="again")


async def items_of(told: Told, read: Sequence[Chunk] = ()) -> list[WriteItem]:
    session = await Hedged(told, hedge_after_s=1).open(Agent(name="a", model="m", reads=("p",)), ASK)
    if read:
        await session.read(read)
    return await write_all(session)


def hedged(prompt_tokens: int) -> Note:
    """The note on a call that lost after its prompt was sent."""
    usage = Usage(prompt_tokens=prompt_tokens, cached_tokens=0, is_estimate=True)
    return Note(kind="hedge", text="m: no word in 1 s, asked a second time", usage=usage)


def test_winner_of_a_race_speaks_alone_and_its_beginning_is_that_of_the_step() -> None:
    first: Telling = [(0, began(10)), (0.5, AGAIN), (0, began(12)), (64, Delta("late"))]
    second: Telling = [(0, began(7)), (1, AGAIN), (1, Delta("a")), (1, Ended(reason="stop"))]
    items = run(items_of(Told(first, second)))
    assert items == [began(10), hedged(12), AGAIN, Delta("a"), Ended(reason="stop")]


def test_first_try_that_was_made_twice_before_it_won_begins_twice() -> None:
    first: Telling = [(0, began(10)), (0.5, AGAIN), (0, began(10)), (2, Delta("a"))]
    second: Telling = [(0, began(7)), (64, Delta("late"))]
    items = run(items_of(Told([*first, (1, Ended(reason="stop"))], second)))
    assert items == [began(10), hedged(7), AGAIN, began(10), Delta("a"), Ended(reason="stop")]


def test_prompt_that_was_refused_costs_nothing() -> None:
    second: Telling = [(0, began(7)), (2, Delta("a")), (1, Ended(reason="stop"))]
    items = run(items_of(Told([(0, began(10)), (1.5, RateLimited("busy"))], second)))
    assert items == [began(10), hedged(0), Delta("a"), Ended(reason="stop")]


@pytest.mark.parametrize(
    ("chunks", "joined"),
    [
        ((), None),
        ([("p", "a", (1,), False), ("q", "b", (2,), False)], [("p", "a", (1,), False), ("q", "b", (2,), False)]),
        ([("p", "a", (1, 2), False), ("p", "b", (3,), True)], [("p", "ab", (1, 2, 3), True)]),
        ([("p", "a", (1,), False), ("p", "b", None, False)], [("p", "ab", None, False)]),
        ([("p", "a", None, False), ("p", "b", (1,), False)], [("p", "ab", None, False)]),
    ],
)
def test_second_try_reads_at_once_whatever_the_first_has_read(
    chunks: Sequence[tuple[str, str, tuple[int, ...] | None, bool]],
    joined: list[tuple[str, str, tuple[int, ...] | None, bool]] | None,
) -> None:
    read = [Chunk(agent=agent, text=text, ids=ids, is_final=is_final) for agent, text, ids, is_final in chunks]
    second: Telling = [(0, began(7)), (1, Delta("a")), (1, Ended(reason="stop"))]
    told = Told([(0, began(10)), (64, Delta("late"))], second)
    run(items_of(told, read))
    (*_, last) = [*told.read, []] if joined is None else told.read
    assert [(one.agent, one.text, one.ids, one.is_final) for one in last] == (joined or [])
    assert len(told.read) == (0 if joined is None else 2)


def test_prefetch_before_any_call_is_the_sessions_own() -> None:
    async def main() -> bool:
        inner = ScriptedBackend(Script(words=("a",), prefetches=True), "m")
        session = await Hedged(inner, hedge_after_s=1).open(Agent(name="a", model="m", reads=("p",)), ASK)
        return await session.prefetch([])

    assert run(main())
