"""A fallback near a full context: it is shown what the model before it had read, and own words count once."""

import math
from collections.abc import Sequence

import pytest

from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.events import Event, Noted, RunEnded, StepStarted
from stairstream.core.graph import Graph, Sampling
from stairstream.core.policy import Policy
from stairstream.engine.room import ContextRoom
from tests.engine.random_runs import events_of
from tests.engine.staircase import ASK, mixture, play
from tests.engine.test_reading import steps, with_agent

EQUAL = Policy(first_chunk=8, growth=1, quorum="all", patience_s=0, lead=math.inf)
P_WORDS, WORDS = numbered_words("p", 200), numbered_words("a", 300)


def models(broken: Fault, proposer_token_s: float = 1 / 64) -> dict[str, ScriptedBackend]:
    scripts = {
        "p1": Script(words=P_WORDS, token_s=proposer_token_s),
        "agg": Script(words=WORDS, first_token_s=1 / 32, token_s=1 / 256, fault=broken),
        "down": Script(words=WORDS, first_token_s=1 / 32, fault=Fault(kind="status_500")),
        "spare": Script(words=WORDS, first_token_s=1 / 32, token_s=1 / 64),
    }
    return {name: ScriptedBackend(script, name) for name, script in scripts.items()}


def graph(context_tokens: int, max_tokens: int = 1000, policy: Policy = EQUAL, *fallbacks: str) -> Graph:
    return with_agent(
        mixture(policy, num_proposers=1),
        "agg",
        context_tokens=context_tokens,
        sampling=Sampling(max_tokens=max_tokens),
        fallbacks=fallbacks or ("spare",),
    )


def full_notes(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, Noted) and event.note.kind == "full"]


@pytest.mark.parametrize("fallbacks", [("spare",), ("down", "spare"), ("down", "down", "spare")])
def test_a_fallback_is_shown_all_that_was_read_before_it(fallbacks: tuple[str, ...]) -> None:
    backends = models(Fault(kind="cut", after_tokens=60))  # breaks off in the call that goes on with what was read
    one, events = play(graph(400, 1000, EQUAL, *fallbacks), backends)
    spare = backends["spare"].calls[0]
    before, after = (max(one.readings[0].end for one in some) for some in _around(events, spare.at_s))
    assert before == after > 200
    assert one.log("p1").text(0, before) in spare.prompt.messages[0].content
    assert one.answer == "".join(WORDS)
    assert len(full_notes(events)) == 1
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"


def _around(events: Sequence[Event], at_s: float) -> tuple[list[StepStarted], list[StepStarted]]:
    return [one for one in steps(events) if one.at_s < at_s], [one for one in steps(events) if one.at_s >= at_s]


def test_own_words_count_once_in_what_a_fallback_may_read() -> None:
    """Room for 40 words of an answer, 20 of which are there; and for 50 tokens of references."""
    once = Policy(first_chunk=8, growth=64, quorum="all", patience_s=0, lead=math.inf)
    backends = models(Fault(kind="cut", after_tokens=20), proposer_token_s=1 / 512)
    agent = graph(1, 40).agent("agg")
    room = ContextRoom.of(agent, ASK).prompt_tokens + 40 + 50
    _, events = play(graph(room, 40, once), backends)
    first, second = steps(events)
    assert (first.readings[0].start, first.readings[0].end) == (0, len("".join(P_WORDS[:8])))
    assert (second.readings[0].start, second.readings[0].end) == (first.readings[0].end, len("".join(P_WORDS[:50])))
    assert second.limit == 20
    assert len(full_notes(events)) == 1


@pytest.mark.parametrize("after_tokens", [0, 3, 10, 30])
@pytest.mark.parametrize("context_tokens", [180, 220, 260, 300, 340, 380])
def test_what_a_fallback_reads_and_has_still_to_say_never_exceeds_the_context(
    context_tokens: int, after_tokens: int
) -> None:
    backends = models(Fault(kind="cut", after_tokens=after_tokens), proposer_token_s=1 / 512)
    run, _ = play(graph(context_tokens, 40), backends)
    assert run.log("agg").num_tokens == 40
    for call in [*backends["agg"].calls, *backends["spare"].calls]:
        assert call.prompt_tokens + call.limit <= context_tokens


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 600), marks=pytest.mark.slow)], ids=str)
def test_references_only_grow(seeds: range) -> None:
    for seed in seeds:
        ends: dict[tuple[str, str], int] = {}
        for step in (event for event in events_of(seed) if isinstance(event, StepStarted)):
            for reading in step.readings:
                edge = step.agent, reading.agent
                assert reading.start == ends.get(edge, 0) <= reading.end, seed
                ends[edge] = reading.end


@pytest.mark.parametrize("fallbacks", [("spare",), ("down", "spare")])
def test_a_fallback_is_told_exactly_the_words_so_far(fallbacks: tuple[str, ...]) -> None:
    backends = models(Fault(kind="cut", after_tokens=5))
    play(graph(4000, 1000, EQUAL, *fallbacks), backends)
    (broken, *_), (spare, *_) = (backends[name].calls for name in ("agg", "spare"))
    assert broken.at_s < spare.at_s
    assert spare.prompt.continues_last
    assert spare.prompt.messages[-1].content == "".join(WORDS[:5])
