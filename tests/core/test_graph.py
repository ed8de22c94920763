"""A graph that exists can run."""

import pytest

from stairstream.core.errors import GraphError
from stairstream.core.graph import THINKING_TOKENS, Agent, Graph, Sampling


def agents(**reads: tuple[str, ...]) -> tuple[Agent, ...]:
    return tuple(Agent(name=name, model="m", reads=upstream) for name, upstream in reads.items())


@pytest.mark.parametrize(
    ("reads", "answer", "culprit"),
    [
        ({"a": ("b",), "b": ("a",)}, "a", "in a circle: .*a -> b|in a circle: .*b -> a"),
        ({"a": ("a",)}, "a", "in a circle: a -> a"),
        ({"a": ("ghost",)}, "a", "'a' reads 'ghost'"),
        ({"a": ()}, "b", "no agent is called 'b'"),
        ({"a": (), "b": ()}, "a", "'b' is read by no agent"),
        ({"a": (), "b": ("a", "a")}, "b", "'b' reads the same agent twice"),
    ],
)
def test_culprit_is_named(reads: dict[str, tuple[str, ...]], answer: str, culprit: str) -> None:
    with pytest.raises(GraphError, match=culprit):
        Graph(agents=agents(**reads), answer=answer)


def test_two_agents_of_one_name_are_refused() -> None:
    with pytest.raises(GraphError, match="two agents are called 'a'"):
        Graph(agents=agents(a=()) * 2, answer="a")


def test_readers_are_found() -> None:
    graph = Graph(agents=agents(a=(), b=("a",), c=("a", "b")), answer="c")
    assert graph.readers("a") == ("b", "c")


@pytest.mark.parametrize(
    ("thinking_tokens", "max_tokens", "most"), [(7, 5000, 7), (None, 1000, THINKING_TOKENS), (None, 5000, 5000)]
)
def test_thoughts_are_bounded_where_nobody_says_how_many(
    thinking_tokens: int | None, max_tokens: int, most: int
) -> None:
    agent = Agent(name="a", model="m", thinking_tokens=thinking_tokens, sampling=Sampling(max_tokens=max_tokens))
    assert agent.most_thoughts == most
