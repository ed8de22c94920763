"""An agent whose model has ended by itself, or at a limit: when it is asked again, and when that was its answer."""

import pytest

from stairstream.core.events import AgentEnded, Event, RunEnded, StepStarted
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import Policy
from stairstream.core.session import Delta, Ended
from tests.backends.moody import Telling, Told, began
from tests.engine.staircase import mixture, play, scripted

PATIENT = Policy(first_chunk=4, growth=1, quorum="all", patience_s=100)


def says(*words: str) -> Telling:
    """A call that says these words, a token each, and ends at once."""
    return [(0.375, began(5)), *((0, Delta(word)) for word in words), (0, Ended(reason="stop"))]


def steps_of(events: list[Event], agent: str) -> list[StepStarted]:
    return [event for event in events if isinstance(event, StepStarted) and event.agent == agent]


def test_model_that_ends_is_asked_again_at_every_mark_until_an_update_adds_nothing() -> None:
    answers = Told(says("It "), says("is "), says(), says("blue."))
    one, events = play(mixture(PATIENT, num_proposers=1), {**scripted(length=40), "agg": answers})
    assert one.answer == "It is "
    assert [step.readings[0].end for step in steps_of(list(events), "agg")] == [
        len(" ".join(f"p1{i}" for i in range(1, mark + 1))) for mark in (4, 8, 12)
    ]
    end = {event.agent: event for event in events if isinstance(event, AgentEnded)}
    assert (end["agg"].reason, end["p1"].reason) == ("stop", "cancelled")
    assert end["agg"].at_s == 0.5 + 11 * 0.25 + 0.375  # at once, whatever its patience


def test_model_that_has_nothing_to_say_is_asked_again_when_there_is_more_to_read() -> None:
    answers = Told(says(), says(), says("Blue."), says())
    one, events = play(mixture(PATIENT, num_proposers=1), {**scripted(length=40), "agg": answers})
    assert one.answer == "Blue."
    assert len(steps_of(list(events), "agg")) == 4
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"


@pytest.mark.parametrize("num_tokens", [None, 3])
def test_endpoint_that_has_come_to_the_agent_s_limit_is_not_asked_again_whatever_it_counts(
    num_tokens: int | None,
) -> None:
    agent = Agent(name="a", model="a", sampling=Sampling(max_tokens=1000))
    limited = [*says("It ", "is ", "blue.")[:-1], (0.0, Ended(reason="limit", num_tokens=num_tokens))]
    one, events = play(Graph(agents=(agent,), answer="a"), {"a": Told(limited)})
    assert (one.answer, len(steps_of(list(events), "a"))) == ("It is blue.", 1)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "length"
