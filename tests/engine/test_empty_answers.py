"""A call that ends before a word: it leaves the answer to a fallback, or is the end of it."""

import pytest

from stairstream.core.events import Noted, RunEnded
from stairstream.core.graph import Agent, Graph
from stairstream.core.session import Delta, Ended, EndReason, WriteItem
from stairstream.engine.run import open_run
from stairstream.sim import clock
from tests.backends.moody import Telling, Told, began
from tests.engine.staircase import ASK

GOOD: Telling = [(0, began(5)), (1, Delta("good")), (0, Ended(reason="stop"))]


def told(*words: WriteItem, reason: EndReason) -> Told:
    return Told([(0, began(5)), *((1, word) for word in words), (0, Ended(reason=reason))])


def play(*models: Told, begun: str = "") -> tuple[str, str, list[str]]:
    """The answer of one agent and its fallbacks, the reason of its end, and the kinds of its notes."""
    backends = {f"m{index}": model for index, model in enumerate(models)}
    first, *fallbacks = backends
    agent = Agent(name="a", model=first, fallbacks=tuple(fallbacks), begun=begun)

    async def main() -> tuple[str, str, list[str]]:
        async with open_run(Graph(agents=(agent,), answer="a"), ASK, backends) as one:
            events = [event async for event in one.events()]
            (end,) = [event for event in events if isinstance(event, RunEnded)]
            return one.answer, end.reason, [event.note.kind for event in events if isinstance(event, Noted)]

    return clock.run(main())


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_call_without_a_word_leaves_the_answer_to_a_fallback(reason: EndReason) -> None:
    assert play(told(reason=reason), Told(GOOD)) == ("good", "stop", ["failover"])


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_last_model_that_says_nothing_has_failed(reason: EndReason) -> None:
    assert play(told(reason=reason)) == ("", "failed", [])


def test_answer_that_was_filtered_before_a_word_is_left_to_nobody() -> None:
    assert play(told(reason="content_filter"), Told(GOOD)) == ("", "content_filter", [])


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_call_with_words_is_left_to_nobody(reason: EndReason) -> None:
    assert play(told(Delta("bad"), reason=reason), Told(GOOD)) == ("bad", reason, [])


def test_model_that_has_nothing_to_add_to_words_of_the_client_has_not_failed() -> None:
    assert play(told(reason="stop"), Told(GOOD), begun="It is blue.")[1:] == ("stop", [])


def test_model_that_comes_to_its_limit_before_a_word_leaves_words_of_the_client_to_a_fallback() -> None:
    assert play(told(reason="length"), Told(GOOD), begun="It is ")[1:] == ("stop", ["failover"])
    assert play(told(reason="length"), begun="It is ")[1:] == ("length", [])
