"""A step in flight: what it used when nobody says, and the tokens that its endpoint counts otherwise."""

import pytest

from stairstream.core.errors import StreamCut
from stairstream.core.events import LayoutChosen, StepEnded, StepStarted
from stairstream.core.graph import Agent, Graph
from stairstream.core.policy import Policy
from stairstream.core.session import Began, Delta, Ended, EndReason, Usage
from stairstream.engine.step import Step
from tests.backends.moody import Told, began
from tests.engine.staircase import mixture, play, scripted

BEGAN = Began(layout="grouped", why="", prompt_tokens=40, is_estimate=False)
SPENT = Usage(prompt_tokens=7, cached_tokens=0, is_estimate=True)


def step(limit: int = 100, size_before: int = 0, tokens: int = 0) -> Step:
    return Step(index=0, limit=limit, is_update=False, size_before=size_before, tokens=tokens)


def test_step_uses_what_its_backend_says_and_what_failed_calls_used() -> None:
    one = step(tokens=3)
    said = Usage(prompt_tokens=50, cached_tokens=10, completion_tokens=4)
    assert one.usage(Ended(reason="stop", usage=said)) == said
    one.spent = SPENT
    assert one.usage(Ended(reason="stop", usage=said)) == Usage(
        prompt_tokens=57, cached_tokens=10, completion_tokens=4, is_estimate=True
    )


@pytest.mark.parametrize("ended", [None, Ended(reason="stop")])
def test_step_of_which_nobody_says_what_it_used_is_estimated(ended: Ended | None) -> None:
    one = step(tokens=9)
    one.call_tokens, one.thinking_tokens = 20, 100
    assert one.usage(ended) == Usage(completion_tokens=129, is_estimate=True)
    one.began, one.spent = BEGAN, SPENT
    assert one.usage(ended) == Usage(prompt_tokens=47, completion_tokens=129, is_estimate=True)


@pytest.mark.parametrize(
    ("reason", "said", "uncounted"),
    [("stop", None, 0), ("stop", 14, 4), ("stop", 8, -2), ("limit", 14, 4), ("limit", None, 10), ("length", None, 0)],
)
def test_endpoint_that_came_to_the_limit_wrote_no_less(reason: EndReason, said: int | None, uncounted: int) -> None:
    one = step(limit=20, size_before=1000, tokens=10)
    assert one.uncounted_tokens(Ended(reason=reason, num_tokens=said), 1100) == uncounted


def test_no_more_tokens_are_believed_than_the_step_has_characters() -> None:
    one = step(size_before=1000, tokens=2)
    assert one.uncounted_tokens(Ended(reason="stop", num_tokens=50), 1100) == 48
    assert one.uncounted_tokens(Ended(reason="stop", num_tokens=50), 1010) < 48


def test_step_that_is_cut_counts_what_its_deltas_say() -> None:
    told = Told([(1, began(5)), (0, Delta("It ")), (0, Delta("is", 2)), (0, StreamCut("lost"))])
    _, events = play(Graph(agents=(Agent(name="a", model="a"),), answer="a"), {"a": told})
    (ended,) = [event for event in events if isinstance(event, StepEnded)]
    assert (ended.reason, ended.uncounted_tokens, ended.usage.completion_tokens) == ("failed", 0, 3)


def test_steps_are_numbered_from_0() -> None:
    _, events = play(mixture(Policy(first_chunk=4, growth=1, quorum="all", patience_s=0)), scripted())
    started = [event.step for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    ended = [event.step for event in events if isinstance(event, StepEnded) and event.agent == "agg"]
    assert started == ended == list(range(len(started)))
    assert len(started) > 2


def test_layout_is_told_when_it_is_another() -> None:
    _, events = play(mixture(Policy(first_chunk=4, growth=1, quorum="all", patience_s=0)), scripted())
    chosen = [(event.agent, event.layout) for event in events if isinstance(event, LayoutChosen)]
    assert sorted(chosen) == [(name, "grouped") for name in ("agg", "p1", "p2", "p3")]
