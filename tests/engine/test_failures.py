"""What failure means: nothing sent is lost, error text enters no prompt, a degraded answer says so."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.core.context import Context
from stairstream.core.costs import Price
from stairstream.core.errors import ConfigError, RequestError
from stairstream.core.events import AgentEnded, Event, Noted, RunEnded, Wrote
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation, question
from stairstream.core.metrics import num_updates, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import WriteItem
from stairstream.engine.run import open_run
from stairstream.sim.clock import Deadlock, run
from tests.engine.staircase import ASK, mixture, play, scripted

pytestmark = pytest.mark.manners

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)


def failing(kind: FaultKind, after_tokens: int = 0, calls: int | None = None) -> Script:
    fault = Fault(kind=kind, after_tokens=after_tokens, calls=calls)
    return Script(words=numbered_words("x", 16), first_token_s=0.5, token_s=0.25, fault=fault)


class Flaky(ScriptedBackend):
    """Every second call fails at once."""

    def __init__(self, steady: ScriptedBackend) -> None:
        super().__init__(steady.script, steady.model)

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "FlakySession":
        return FlakySession(self, Context(agent=agent, conversation=conversation, written=written))


class FlakySession(ScriptedSession):
    def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        is_bad = len(self._backend.calls) % 2 == 1
        fault = Fault(kind="status_500") if is_bad else None
        self._backend.script = replace(self._backend.script, fault=fault)
        return super().write(limit)


@pytest.mark.parametrize("kind", ["status_500", "status_429", "empty", "cut", "malformed"])
def test_proposer_that_fails_before_its_first_word_is_dropped(kind: FaultKind) -> None:
    backends = scripted(p2=failing(kind))
    run_, events = play(mixture(QUICK), backends)
    assert run_.answer.endswith("agg16")
    end = next(event for event in events if isinstance(event, AgentEnded) and event.agent == "p2")
    assert end.reason == "dropped"
    assert isinstance(events[-1], RunEnded)
    assert len(events[-1].degraded) == 1 and events[-1].degraded[0].startswith("p2 was dropped: ")
    prompts = [message.content for call in backends["agg"].calls for message in call.prompt.messages]
    assert end.error is not None
    assert not any(end.error in prompt or "500" in prompt or "429" in prompt for prompt in prompts)


def test_proposer_that_breaks_off_keeps_its_words_and_counts_as_ended() -> None:
    backends = scripted(p2=failing("cut", after_tokens=2))
    run_, events = play(mixture(QUICK), backends)
    assert run_.log("p2").text() == "x1 x2"
    assert any("x1 x2" in message.content for message in backends["agg"].calls[0].prompt.messages)
    assert isinstance(events[-1], RunEnded)
    assert events[-1].degraded[0].startswith("p2 broke off after 2 tokens: ")


def test_all_proposers_gone_the_aggregator_answers_alone_and_says_so() -> None:
    broken = failing("status_500")
    run_, events = play(mixture(QUICK), scripted(p1=broken, p2=broken, p3=broken))
    assert run_.answer.endswith("agg16")
    assert isinstance(events[-1], RunEnded)
    assert events[-1].degraded[-1] == "agg answered alone"


def test_failure_of_the_answer_ends_the_run_and_is_never_a_stop() -> None:
    run_, events = play(mixture(QUICK), scripted(agg=failing("cut", after_tokens=3)))
    assert run_.answer == "x1 x2 x3"
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "failed"
    assert events[-1].error is not None and "cuts the stream" in events[-1].error


def test_call_that_fails_before_its_first_token_is_made_again() -> None:
    backends = scripted(p2=failing("status_500", calls=2))
    again: dict[str, Backend] = {
        name: Retrying(backend, attempts=3, rng=random.Random(0)) for name, backend in backends.items()
    }
    run_, events = play(mixture(QUICK), again)
    assert len(backends["p2"].calls) == 3
    assert run_.log("p2").text().endswith("x16")
    assert [event.note.kind for event in events if isinstance(event, Noted)] == ["retry", "retry"]
    assert isinstance(events[-1], RunEnded)
    assert events[-1].degraded == ()


def test_answer_survives_a_failing_update_without_a_word_twice() -> None:
    backends = scripted(length=40)
    again: dict[str, Backend] = {**backends, "agg": Retrying(Flaky(backends["agg"]), attempts=2, rng=random.Random(0))}
    run_, events = play(mixture(QUICK), again)
    assert [event.note.kind for event in events if isinstance(event, Noted)] == ["retry"] * num_updates(events, "agg")
    assert run_.answer == " ".join(f"agg{i}" for i in range(1, 41))


@pytest.mark.one_by_one
def test_hanging_proposer_holds_only_who_waits_for_every_end() -> None:
    _, events = play(mixture(QUICK), scripted(p2=failing("hang", after_tokens=1)))
    # silent from 0.5 s on, for 1 s and twice the 1.25 s that the first one needed to its mark
    assert summarize(events).first_token_s == 0.5 + 1 + 2 * 1.25 + 0.5
    with pytest.raises(Deadlock):
        play(mixture(PRESETS["wait"]), scripted(p2=failing("hang", after_tokens=1)))


def test_who_is_read_no_more_ends_at_once_even_in_the_runs_first_turn() -> None:
    """The answer fails before agents that come later in the graph have begun."""
    fails = Script(words=(), first_token_s=0, token_s=0, fault=Fault(kind="reset"))
    early = Agent(name="early", model="bad")
    late, later = Agent(name="late", model="good"), Agent(name="later", model="good", reads=("late",))
    hasty = Policy(first_chunk=math.inf, growth=1, quorum=1, patience_s=0, lead=math.inf)
    answer = Agent(name="answer", model="bad", reads=("later", "early"), policy=hasty)
    backends = {"bad": ScriptedBackend(fails), "good": ScriptedBackend(failing("hang"))}
    _, events = play(Graph(agents=(early, late, answer, later), answer="answer"), backends)
    ends = {event.agent: (event.reason, event.at_s) for event in events if isinstance(event, AgentEnded)}
    assert ends["later"] == ends["late"] == ("cancelled", 0)


def test_run_deadline_ends_it_with_what_it_has() -> None:
    backends = scripted(length=400)
    run_, events = play(mixture(QUICK), backends, deadline_s=4)
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].reason, events[-1].at_s) == ("deadline", 4)
    assert run_.answer.startswith("agg1 agg2")
    assert all(backend.num_writing == backend.num_sessions == 0 for backend in backends.values())


def test_deadline_before_the_first_word_is_an_error() -> None:
    _, events = play(mixture(PRESETS["wait"]), scripted(length=400), deadline_s=4)
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "failed"
    assert events[-1].error == "nothing had been said when the run's deadline was reached"


def test_leaving_the_block_closes_every_call_at_once() -> None:
    backends = scripted(length=400)

    async def leave() -> float:
        async with open_run(mixture(QUICK), ASK, backends) as one:
            async for event in one.events():
                if event.at_s >= 3:
                    break
        assert all(backend.num_writing == backend.num_sessions == 0 for backend in backends.values())
        events = [event async for event in one.events()]
        assert isinstance(events[-1], RunEnded) and events[-1].reason == "cancelled"
        return asyncio.get_running_loop().time()

    assert run(leave()) == 3


def test_error_raised_in_the_block_comes_out_unwrapped() -> None:
    async def fail() -> None:
        async with open_run(mixture(QUICK), ASK, scripted()):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(fail())


def test_two_readers_of_the_events_see_the_same() -> None:
    async def collect(events: AsyncIterator[Event]) -> list[Event]:
        return [event async for event in events]

    async def read() -> None:
        async with open_run(mixture(QUICK), ASK, scripted()) as one, asyncio.TaskGroup() as tasks:
            first, second = (tasks.create_task(collect(one.events())) for _ in range(2))
        assert first.result() == second.result()
        assert summarize(first.result()).reason == "stop"

    run(read())


def test_empty_question_and_unknown_model_are_refused_before_anything_runs() -> None:
    async def ask(text: str, backends: dict[str, Backend]) -> None:
        async with open_run(mixture(QUICK), question(text), backends):
            pass

    with pytest.raises(RequestError, match="question is empty"):
        run(ask("  ", {**scripted()}))
    with pytest.raises(ConfigError, match="'p1' wants model 'p1'"):
        run(ask("why?", {}))


def fallback(graph: Graph, *models: str) -> Graph:
    agents = tuple(replace(agent, fallbacks=models) if agent.name == "agg" else agent for agent in graph.agents)
    return replace(graph, agents=agents)


@pytest.mark.parametrize("kind", ["status_500", "cut", "malformed", "empty", "no_done"])
def test_fallback_goes_on_from_the_words_already_sent(kind: FaultKind) -> None:
    words = numbered_words("x", 16)
    fault = Fault(kind=kind, after_tokens=5)
    spare = ScriptedBackend(Script(words=words, first_token_s=0.5, token_s=0.25), "spare")
    broken = Script(words=words, first_token_s=0.5, token_s=0.25, fault=fault)
    run_, events = play(fallback(mixture(QUICK), "spare"), {**scripted(agg=broken), "spare": spare})
    assert run_.answer == "".join(words)
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].reason, events[-1].error) == ("stop", None)
    assert events[-1].degraded[0].startswith("agg: ") and events[-1].degraded[0].endswith("; spare continues")


def test_failover_in_an_update_reads_everything_again() -> None:
    words = numbered_words("x", 40)
    spare = ScriptedBackend(Script(words=words, first_token_s=0.5, token_s=0.25), "spare")
    broken = Script(words=words, first_token_s=0.5, token_s=0.25, fault=Fault(kind="cut", after_tokens=20))
    backends = {**scripted(agg=broken), "spare": spare}
    run_, _ = play(fallback(mixture(QUICK), "spare"), backends)
    assert run_.answer == "".join(words)
    prompt = spare.calls[0].prompt
    assert all(f"p{i}1 p{i}2" in prompt.messages[0].content for i in (1, 2, 3))
    assert prompt.messages[-1].content.startswith("x1 x2")


def test_no_fallback_left_ends_with_an_error_and_keeps_what_was_sent() -> None:
    spare = ScriptedBackend(failing("cut", after_tokens=2), "spare")
    broken = failing("cut", after_tokens=3)
    run_, events = play(fallback(mixture(QUICK), "spare"), {**scripted(agg=broken), "spare": spare})
    assert run_.answer == "x1 x2 x3 x4 x5"
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "failed"


def test_first_token_and_gap_deadlines_count_as_failures() -> None:
    graph = mixture(QUICK)
    hang = failing("hang", after_tokens=2)
    agents = tuple(replace(agent, first_token_s=2.0, gap_s=1.0) for agent in graph.agents)
    late = Script(words=numbered_words("x", 16), first_token_s=4)
    run_, events = play(replace(graph, agents=agents), scripted(p1=hang, p2=late))
    ends = {event.agent: (event.at_s, event.reason) for event in events if isinstance(event, AgentEnded)}
    assert ends["p1"] == (0.75 + 1.0, "failed")
    assert ends["p2"] == (2.0, "dropped")
    assert run_.answer.endswith("agg16")


@pytest.mark.one_by_one
def test_run_that_reaches_its_budget_ends_with_what_it_has() -> None:
    prices = {name: Price(prompt=0, completion=1e6) for name in ("p1", "p2", "p3", "agg")}

    async def main() -> tuple[str, list[Event]]:
        async with open_run(mixture(QUICK), ASK, scripted(), prices=prices, max_cost=40) as one:
            return one.answer, [event async for event in one.events()]

    _, events = run(main())
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "budget"
    assert sum(event.num_tokens for event in events if isinstance(event, Wrote)) == 40
