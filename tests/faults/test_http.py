"""Each situation over real HTTP, for a proposer and for the aggregator, alone and two at once: whatever happens, no
word is lost or said twice, no error enters a prompt, the run ends, and says what it had to do without."""

import asyncio
import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import msgspec
import pytest

from stairstream.backends.base import Backend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Script, numbered_words
from stairstream.core.events import AgentEnded, Event, LayoutChosen, Noted, RunEnded, Wrote
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import question
from stairstream.core.policy import Policy
from stairstream.engine.run import open_run
from stairstream.server.fake.server import FakeCall, FakeContinues, FakeModel, serve_fake
from tests.faults.situations import BY_NAME, NUM_WORDS, SITUATIONS, Situation
from tests.manners import models_in_manner

pytestmark = pytest.mark.manners

ASK = question("Why is the sky blue?")
POLICY = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)
REFUSING_URL = "http://127.0.0.1:9/v1"
LATE_S = 1.0
WORDS = {
    "p1": numbered_words("a", NUM_WORDS),
    "p2": numbered_words("b", NUM_WORDS),
    "agg": numbered_words("w", 2 * NUM_WORDS),
}
ANSWER = "".join(WORDS["agg"])
FORBIDDEN = ("127.0.0.1", "the script", "doctype", "refused", "Incorrect", "prefill", "failed", "(p1)", "(p2)", "(agg)")
"""What the error texts of these tests are made of."""

Plan = Mapping[str, Situation]
"""What goes wrong, by agent; the others are well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is left of a run."""

    answer: str
    events: Sequence[Event]
    calls: Sequence[FakeCall]

    @property
    def end(self) -> RunEnded:
        assert isinstance(self.events[-1], RunEnded)
        return self.events[-1]


def script_of(name: str, situation: Situation | None) -> Script:
    words = WORDS["agg" if name == "spare" else name]
    script = Script(words=words, first_token_s=0.002, token_s=0.001)
    if situation is None:
        return script
    is_slow = situation.is_late and situation.fault is None
    return replace(script, first_token_s=60 if is_slow else 0.002, fault=situation.fault)


def graph_of(plan: Plan, spare: FakeContinues | None, late_s: float) -> Graph:
    def agent(name: str, reads: tuple[str, ...] = (), fallbacks: tuple[str, ...] = ()) -> Agent:
        # only the deadline that the situation needs: a busy machine misses the other where nothing is wrong
        situation = plan.get(name)
        is_late = situation is not None and situation.is_late
        has_begun = situation is not None and bool(situation.tokens)
        return Agent(
            name=name,
            model=name,
            reads=reads,
            fallbacks=fallbacks,
            policy=POLICY,
            first_token_s=late_s if is_late and not has_begun else None,
            gap_s=late_s if is_late and has_begun else None,
        )

    return Graph(
        agents=(agent("p1"), agent("p2"), agent("agg", ("p1", "p2"), ("spare",) if spare else ())), answer="agg"
    )


def backends_at(base_url: str, pool: HttpPool, folder: str, plan: Plan, spare: FakeContinues) -> dict[str, Backend]:
    capabilities = Capabilities(path=Path(folder) / "capabilities.json")
    found: dict[str, Backend] = {}
    for name in ("p1", "p2", "agg", "spare"):
        situation = plan.get(name)
        url = REFUSING_URL if situation and situation.is_refused else base_url
        found[name] = OpenAIBackend(
            base_url=url,
            model=name,
            pool=pool,
            capabilities=capabilities,
            continues="none" if name == "spare" and spare == "none" else "flag",
        )
        if situation and situation.retries:
            found[name] = Retrying(found[name], attempts=2, rng=random.Random(0))
    return found


async def play(plan: Plan, spare: FakeContinues | None = None, late_s: float = LATE_S) -> Outcome:
    """One run to its end, in bounded time; `spare` is how the aggregator's fallback continues, None: it has none."""
    models = [
        FakeModel(
            name=name,
            script=script_of(name, plan.get(name)),
            continues=plan[name].continues if name in plan else "flag",
            keeps_prompts=True,
        )
        for name in ("p1", "p2", "agg", "spare")
    ]
    with tempfile.TemporaryDirectory() as folder:
        async with aclosing(HttpPool()) as pool, serve_fake(models_in_manner(models)) as serving, asyncio.timeout(10):
            backends = backends_at(serving.base_url, pool, folder, plan, spare or "flag")
            async with open_run(graph_of(plan, spare, late_s), ASK, backends) as run:
                events = [event async for event in run.events()]
                sent = "".join(run.text(event) for event in events if isinstance(event, Wrote) and event.agent == "agg")
                assert sent == run.answer
            return Outcome(answer=run.answer, events=events, calls=await closed_calls(serving.base_url))


async def closed_calls(base_url: str) -> list[FakeCall]:
    """The calls as the server lists them, as soon as it has noticed that none is open."""
    url = base_url.replace("/v1", "/_calls")
    async with aiohttp.ClientSession() as client:
        for _ in range(100):
            async with client.get(url) as response:
                calls = msgspec.convert((await response.json())["calls"], list[FakeCall])
            if all(call.ended != "open" for call in calls):
                return calls
            await asyncio.sleep(0.005)
    raise AssertionError("a call is open at the server after the run has ended")


def check(plan: Plan, outcome: Outcome, has_spare: bool) -> None:
    """What must hold whatever happens."""
    for call in outcome.calls:
        assert call.prompt is not None
        assert not [text for text in FORBIDDEN if text in call.prompt]
    ends = {event.agent: event for event in outcome.events if isinstance(event, AgentEnded)}
    for name in ("p1", "p2"):
        check_proposer(name, plan.get(name), ends[name], outcome)
    aggregator = plan.get("agg")
    if aggregator is None or aggregator.is_survived or has_spare:
        assert (outcome.answer, outcome.end.reason, outcome.end.error) == (ANSWER, "stop", None)
    else:
        words = outcome.answer.split()
        assert "".join(WORDS["agg"][: len(words)]) == outcome.answer
        assert outcome.end.reason == "failed" and outcome.end.error
    failed_over = any(line.startswith("agg: ") and line.endswith("; spare continues") for line in outcome.end.degraded)
    assert failed_over == bool(aggregator and not aggregator.is_survived and has_spare)
    if all(situation.is_survived for situation in plan.values()):
        assert outcome.end.degraded == ()
        check_survived(plan, outcome)


def check_survived(plan: Plan, outcome: Outcome) -> None:
    """The situation did come about, and was said."""
    for name, situation in plan.items():
        retries = [e for e in outcome.events if isinstance(e, Noted) and e.agent == name and e.note.kind == "retry"]
        # an aggregator's first call may be stopped by an update before its failure comes, or need none
        assert bool(retries) == situation.retries or (name == "agg" and not retries)
        if situation.name == "prefill rejected" and name == "agg":
            layouts = [e.layout for e in outcome.events if isinstance(e, LayoutChosen) and e.agent == name]
            assert layouts in (["grouped", "quoted"], ["grouped"])


def check_proposer(name: str, situation: Situation | None, end: AgentEnded, outcome: Outcome) -> None:
    lines = [line for line in outcome.end.degraded if line.startswith(f"{name} ")]
    if situation is None or situation.tokens is None:
        # an answer that fails early takes healthy proposers with it
        assert end.reason in ("stop", "cancelled") and not lines
    elif end.reason != "cancelled":
        wrote = [event for event in outcome.events if isinstance(event, Wrote) and event.agent == name]
        counted = sum(event.num_tokens for event in wrote)
        assert counted == situation.tokens or any(event.is_estimate for event in wrote)
        assert wrote == [] or wrote[-1].end == len("".join(WORDS[name][: situation.tokens]))
        said = f"{name} broke off after {counted} tokens" if situation.tokens else f"{name} was dropped"
        assert end.reason == ("failed" if situation.tokens else "dropped")
        assert len(lines) == 1 and lines[0].startswith(said)


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_proposer_in_each_situation(situation: Situation) -> None:
    plan = {"p1": situation}
    outcome = asyncio.run(play(plan))
    check(plan, outcome, has_spare=False)
    assert ("agg answered alone" in outcome.end.degraded) is False


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_aggregator_in_each_situation(situation: Situation) -> None:
    plan = {"agg": situation}
    check(plan, asyncio.run(play(plan)), has_spare=False)


@pytest.mark.parametrize("spare", ["flag", "none"])
@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_aggregator_with_a_fallback_in_each_situation(situation: Situation, spare: FakeContinues) -> None:
    plan = {"agg": situation}
    check(plan, asyncio.run(play(plan, spare)), has_spare=True)


SPARES: tuple[FakeContinues | None, ...] = (None, "flag", "none")
QUICK_PAIRS = (
    ("refused", "status 500"),
    ("cut", "cut"),
    ("cut", "flapping"),
    ("stall", "prefill rejected"),
    ("no [DONE]", "no [DONE]"),
    ("HTML", "empty"),
    ("length at once", "error event"),
    ("malformed JSON", "status 429"),
    ("slow first token", "cut"),
    ("status 401", "cut in a character"),
)


@pytest.mark.parametrize(("one", "other"), QUICK_PAIRS)
def test_two_proposers_at_once(one: str, other: str) -> None:
    plan = {"p1": BY_NAME[one], "p2": BY_NAME[other]}
    outcome = asyncio.run(play(plan))
    check(plan, outcome, has_spare=False)
    alone = all(situation.tokens == 0 for situation in plan.values())
    assert ("agg answered alone" in outcome.end.degraded) == alone


@pytest.mark.parametrize(("one", "other"), QUICK_PAIRS)
def test_a_proposer_and_the_aggregator_at_once(one: str, other: str) -> None:
    plan = {"p1": BY_NAME[one], "agg": BY_NAME[other]}
    check(plan, asyncio.run(play(plan, "flag")), has_spare=True)


@pytest.mark.slow
@pytest.mark.parametrize("one", SITUATIONS, ids=str)
def test_every_pair(one: Situation) -> None:
    turns = asyncio.Semaphore(10)

    async def try_out(plan: Plan, spare: FakeContinues | None) -> None:
        async with turns:
            outcome = await play(plan, spare, late_s=2.0)
        try:
            check(plan, outcome, has_spare=spare is not None)
        except AssertionError as exc:
            exc.add_note(", ".join(f"{name}: {situation}" for name, situation in plan.items()) + f"; spare: {spare}")
            raise

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for other in SITUATIONS:
                tasks.create_task(try_out({"p1": one, "p2": other}, None))
                for spare in SPARES:
                    tasks.create_task(try_out({"p1": one, "agg": other}, spare))
                tasks.create_task(try_out({"p1": one, "p2": one, "agg": other}, "flag"))

    asyncio.run(main())
