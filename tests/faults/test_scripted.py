"""The situations that make sense without a network, with the whole engine, in virtual time and exact."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, numbered_words
from stairstream.core.events import AgentEnd, AgentEnded, Event, Noted, RunEnded
from stairstream.core.graph import Graph
from stairstream.core.metrics import first_token_s
from stairstream.core.policy import PRESETS, Policy
from tests.engine.staircase import mixture, play, scripted

pytestmark = pytest.mark.manners

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)
LENGTH = 16
START_S = 0.5 + (LENGTH - 1) * 0.25
"""When an aggregator that waits begins."""
WORDS = numbered_words("x", LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A fault, and when a call that began at 0 has failed by it, with how many tokens said."""

    kind: FaultKind | None
    at_s: float
    tokens: int = 0

    def __str__(self) -> str:
        return self.kind or "slow first token"

    def script(self, calls: int | None = None, every: int = 1) -> Script:
        fault = Fault(kind=self.kind, after_tokens=3, calls=calls, every=every) if self.kind else None
        return Script(words=WORDS, first_token_s=0.5 if fault else 64, token_s=0.25, fault=fault)


# tokens come at 0.5, 0.75, 1.0, 1.25...; the deadline of the silent ones is 2 s
FAILURES = (
    Failure(kind="reset", at_s=0),
    Failure(kind="status_401", at_s=0),
    Failure(kind="status_429", at_s=0),
    Failure(kind="status_500", at_s=0),
    Failure(kind="html", at_s=0),
    Failure(kind=None, at_s=2),
    Failure(kind="hang", at_s=1 + 2, tokens=3),
    Failure(kind="cut", at_s=1.25, tokens=3),
    Failure(kind="cut_in_character", at_s=1.25, tokens=3),
    Failure(kind="malformed", at_s=1.25, tokens=3),
    Failure(kind="error_event", at_s=1.25, tokens=3),
    Failure(kind="no_done", at_s=0.5 + 15 * 0.25, tokens=LENGTH),
    Failure(kind="empty", at_s=0.5),
    Failure(kind="length_at_once", at_s=0.5),
)


def with_deadlines(graph: Graph, *names: str) -> Graph:
    agents = (replace(one, first_token_s=2, gap_s=2) if one.name in names else one for one in graph.agents)
    return replace(graph, agents=tuple(agents))


def with_fallback(graph: Graph, model: str) -> Graph:
    """The answering agent has one."""
    agents = (replace(one, fallbacks=(model,) if one.reads else ()) for one in graph.agents)
    return replace(graph, agents=tuple(agents))


def end_of(events: Sequence[Event], agent: str) -> tuple[float, AgentEnd]:
    (end,) = (event for event in events if isinstance(event, AgentEnded) and event.agent == agent)
    return end.at_s, end.reason


@pytest.mark.one_by_one
@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_proposer_that_fails_holds_nobody_up_longer_than_it_lives(failure: Failure) -> None:
    backends = scripted(p2=failure.script())
    one, events = play(with_deadlines(mixture(QUICK), "p2"), backends)
    assert end_of(events, "p2") == (failure.at_s, "failed" if failure.tokens else "dropped")
    # the others have their first four tokens at 1.25; p2 counts as ended once it has failed
    start_s = max(1.25, failure.at_s if failure.tokens < 4 else 0)
    assert first_token_s(events, "agg") == start_s + 0.5
    assert one.answer == "".join(numbered_words("agg", LENGTH))
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
    assert len(events[-1].degraded) == 1 and events[-1].degraded[0].startswith("p2 ")
    prompts = [message.content for call in backends["agg"].calls for message in call.prompt.messages]
    assert not any("script" in prompt or "said nothing" in prompt for prompt in prompts)
    assert all(backend.num_writing == backend.num_sessions == 0 for backend in backends.values())


@pytest.mark.one_by_one
@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_aggregator_that_fails_ends_honestly_with_what_it_said(failure: Failure) -> None:
    backends = scripted(agg=failure.script())
    one, events = play(with_deadlines(mixture(PRESETS["wait"]), "agg"), backends)
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].reason, events[-1].at_s) == ("failed", START_S + failure.at_s)
    assert events[-1].error
    assert one.answer == "".join(WORDS[: failure.tokens])
    assert all(backend.num_writing == backend.num_sessions == 0 for backend in backends.values())


@pytest.mark.one_by_one
@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_fallback_takes_over_at_that_instant_and_says_every_word_once(failure: Failure) -> None:
    spare = ScriptedBackend(Script(words=WORDS, first_token_s=0.5, token_s=0.25), "spare")
    backends = {**scripted(agg=failure.script()), "spare": spare}
    graph = with_fallback(with_deadlines(mixture(PRESETS["wait"]), "agg"), "spare")
    one, events = play(graph, backends)
    assert one.answer == "".join(WORDS)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
    assert spare.calls[0].at_s == START_S + failure.at_s
    assert sum(line.endswith("; spare continues") for line in events[-1].degraded) == 1


@pytest.mark.parametrize("failure", [one for one in FAILURES if one.at_s == 0 or not one.tokens], ids=str)
def test_second_try_survives_what_failed_before_the_first_word(failure: Failure) -> None:
    scripts = scripted(p2=failure.script(calls=1), agg=failure.script(calls=1))
    if failure.kind in (None, "status_401"):  # too late for the engine's deadline; a key is not tried again
        return
    backends: dict[str, Backend] = {
        name: Retrying(backend, attempts=2, rng=random.Random(0)) for name, backend in scripts.items()
    }
    one, events = play(mixture(QUICK), backends)
    assert one.answer == "".join(WORDS)
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].reason, events[-1].degraded) == ("stop", ())
    retried = [event.agent for event in events if isinstance(event, Noted) and event.note.kind == "retry"]
    assert sorted(retried) == ["agg", "p2"]


def test_flapping_places_are_survived_call_by_call() -> None:
    flapping = Fault(kind="status_500", every=2)
    scripts = {
        name: ScriptedBackend(replace(backend.script, fault=flapping), name)
        for name, backend in scripted(length=40).items()
    }
    backends: dict[str, Backend] = {
        name: Retrying(backend, attempts=2, rng=random.Random(0)) for name, backend in scripts.items()
    }
    one, events = play(mixture(QUICK), backends)
    assert one.answer == "".join(numbered_words("agg", 40))
    assert isinstance(events[-1], RunEnded) and events[-1].degraded == ()
    assert len(scripts["agg"].calls) >= 4


def test_place_that_flaps_in_mid_answer_may_be_its_own_fallback() -> None:
    broken = Script(words=WORDS, first_token_s=0.5, token_s=0.25, fault=Fault(kind="cut", after_tokens=3, every=2))
    one, events = play(with_fallback(mixture(PRESETS["wait"]), "agg"), scripted(agg=broken))
    assert one.answer == "".join(WORDS)
    assert isinstance(events[-1], RunEnded) and events[-1].degraded[0].endswith("; agg continues")


@pytest.mark.one_by_one
@pytest.mark.parametrize("kind", ["empty", "length_at_once"])
def test_answer_that_is_empty_at_first_is_handed_over_before_the_next_update(kind: FaultKind) -> None:
    spare = ScriptedBackend(Script(words=WORDS, first_token_s=0.5, token_s=0.25), "spare")
    silent = Script(words=WORDS, first_token_s=0.5, token_s=0.25, fault=Fault(kind=kind))
    one, _ = play(with_fallback(mixture(QUICK), "spare"), {**scripted(agg=silent), "spare": spare})
    assert one.answer == "".join(WORDS)
    assert spare.calls[0].at_s == 1.25 + 0.5


@pytest.mark.parametrize("attempts", [1, 2])
def test_model_that_is_silent_at_first_is_asked_again_when_there_is_more_to_read(attempts: int) -> None:
    silent = Script(words=WORDS, first_token_s=0.5, token_s=0.25, fault=Fault(kind="empty", calls=attempts))
    scripts = scripted(agg=silent)
    rng = random.Random(0)
    one, events = play(mixture(QUICK), {**scripts, "agg": Retrying(scripts["agg"], attempts=attempts, rng=rng)})
    assert one.answer == "".join(WORDS)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"


def test_length_at_once_in_an_update_leaves_the_answer_to_a_fallback() -> None:
    words = numbered_words("x", 40)
    full = Script(words=words, first_token_s=0.5, token_s=0.25)
    spare = ScriptedBackend(full, "spare")

    class FullLater(ScriptedBackend):
        """Its second call finds no room."""

        @property
        def script(self) -> Script:
            return replace(full, fault=Fault(kind="length_at_once") if len(self.calls) > 1 else None)

        @script.setter
        def script(self, value: Script) -> None:
            pass

    graph = mixture(QUICK)
    backends: dict[str, Backend] = {**scripted(), "agg": FullLater(full, "agg"), "spare": spare}
    alone, events = play(graph, backends)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "length"
    assert "".join(words).startswith(alone.answer) and alone.answer
    graph = with_fallback(graph, "spare")
    one, events = play(graph, {**backends, "agg": FullLater(full, "agg")})
    assert one.answer == "".join(words)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
