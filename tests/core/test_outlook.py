"""Expectations by known rates: `core.outlook`."""

import math

import pytest

from stairstream.core.adaptive import Rate
from stairstream.core.decisions import Own, Upstream
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.outlook import Foresight
from stairstream.core.worth import Outlook

RATES = {
    "quick": Rate(first_token_s=0.5, tokens_per_s=16, answer_tokens=33, read_token_s=0.0),
    "slow": Rate(first_token_s=0.5, tokens_per_s=8, answer_tokens=9, read_token_s=0.0),
}
ASKED = (Upstream(num_written=0, num_read=0, has_ended=False, end_is_read=False, silent_since=1.0),)


def outlook(max_tokens: int = 100) -> Outlook:
    """One agent on `slow` that reads one on `quick`, which was asked at 1 s and is silent."""
    answer = Agent(name="answer", model="slow", reads=("p",), sampling=Sampling(max_tokens=max_tokens))
    graph = Graph(agents=(Agent(name="p", model="quick"), answer), answer="answer")
    return Foresight(graph, answer, RATES).outlook(ASKED, [None], Own(max_tokens=max_tokens), None, 1.0, 0, 0)


def test_a_text_ends_with_its_last_token() -> None:
    """33 tokens at 16 a second take 2 s from the first to the last; 9 at 8, or 5 of them, 1 s or half of it."""
    assert list(outlook().ends_s) == pytest.approx([1.0 + 0.5 + 2.0])
    assert outlook().writing_s == 1.0
    assert outlook(max_tokens=5).writing_s == 0.5


def test_nothing_is_known_of_times_without_the_rate_of_its_own_model() -> None:
    answer = Agent(name="answer", model="unknown", reads=("p",))
    graph = Graph(agents=(Agent(name="p", model="quick"), answer), answer="answer")
    found = Foresight(graph, answer, RATES).outlook(ASKED, [None], Own(max_tokens=9), None, 1.0, 0, 0)
    assert (found.call_s, found.call_most_s, found.last_call_s) == (math.inf, math.inf, math.inf)
