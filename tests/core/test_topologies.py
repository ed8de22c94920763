"""Names, readers, seeds and policies of the ready-made graphs."""

from collections.abc import Callable

import pytest

from stairstream.core.errors import GraphError
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import chain, council, debate, mixture, self_mixture, single, tree, work_in_turn


def names(graph: Graph) -> list[str]:
    return [agent.name for agent in graph.agents]


def test_single_is_one_agent_named_after_its_model() -> None:
    graph = single("m", sampling=Sampling(max_tokens=7))
    assert names(graph) == ["m"]
    assert graph.answer == "m"
    assert graph.agents[0].reads == ()
    assert graph.agents[0].sampling.max_tokens == 7


def test_model_listed_more_than_once_is_numbered() -> None:
    graph = mixture(proposers=["p1", "p2", "p1", "p1"], aggregator="agg")
    assert names(graph) == ["p1.1", "p2", "p1.2", "p1.3", "agg"]
    assert graph.answer == "agg"
    assert graph.agent("agg").reads == ("p1.1", "p2", "p1.2", "p1.3")


def test_aggregator_keeps_its_name_when_it_proposes_as_well() -> None:
    assert names(mixture(proposers=["m"], aggregator="m")) == ["m.1", "m"]
    assert names(mixture(proposers=["m", "m"], aggregator="m")) == ["m.1", "m.2", "m"]


def test_names_never_clash_with_models_that_look_numbered() -> None:
    assert names(mixture(proposers=["p", "p", "p.2"], aggregator="p.1")) == ["p.1-2", "p.2", "p.2-2", "p.1"]


def test_each_layer_reads_all_of_the_layer_before() -> None:
    graph = mixture(proposers=["a", "b"], aggregator="c", layers=3)
    assert names(graph) == ["l1.a", "l1.b", "l2.a", "l2.b", "l3.a", "l3.b", "c"]
    assert graph.agent("l1.b").reads == ()
    assert graph.agent("l2.a").reads == ("l1.a", "l1.b")
    assert graph.agent("l3.b").reads == ("l2.a", "l2.b")
    assert graph.agent("c").reads == ("l3.a", "l3.b")


def test_samples_of_one_model_differ_by_their_seeds() -> None:
    given = {"m": Sampling(temperature=0.0, seed=10)}
    warm = {"m": Sampling(temperature=0.8, seed=10)}
    graph = mixture(proposers=["m", "m", "m"], aggregator="m", layers=2, sampling=given, proposer_sampling=warm)
    proposers = [agent.sampling for agent in graph.agents[:-1]]
    assert [one.seed for one in proposers] == [11, 12, 13, 14, 15, 16]
    assert {one.temperature for one in proposers} == {0.8}
    assert graph.agents[-1].sampling == Sampling(temperature=0.0, seed=10)


def test_a_model_that_proposes_once_keeps_its_seed() -> None:
    graph = mixture(proposers=["a", "b"], aggregator="c", sampling={"b": Sampling(seed=5)})
    assert [agent.sampling.seed for agent in graph.agents] == [None, 5, None]


def test_policy_and_layout_go_to_every_agent() -> None:
    graph = mixture(proposers=["a"], aggregator="b", layers=2, policy=PRESETS["paper"], layout="quoted")
    assert {agent.policy for agent in graph.agents} == {PRESETS["paper"]}
    assert {agent.layout for agent in graph.agents} == {"quoted"}


@pytest.mark.parametrize(("proposers", "layers", "said"), [([], 1, "at least one proposer"), (["a"], 0, "not 0")])
def test_impossible_mixture_is_a_graph_error(proposers: list[str], layers: int, said: str) -> None:
    with pytest.raises(GraphError, match=said):
        mixture(proposers=proposers, aggregator="b", layers=layers)


def test_agents_that_all_read_each_other_are_named_as_a_circle() -> None:
    one, other = (Agent(name=name, model="m", reads=(reads,)) for name, reads in (("a", "b"), ("b", "a")))
    with pytest.raises(GraphError, match="in a circle"):
        work_in_turn([one, other])


def test_debate_reads_the_round_before_and_a_chosen_debater_answers() -> None:
    graph = debate(debaters=["x", "y", "y"], rounds=3, answer=2)
    assert graph.answer == "r3.y.1"
    assert graph.agent("r3.y.1").reads == ("r2.x", "r2.y.1", "r2.y.2")
    assert [agent.name for agent in graph.agents if agent.depth == 2] == ["r3.y.1"]
    judged = debate(debaters=["x", "y"], rounds=2, judge="z")
    assert judged.agent("judge").reads == ("r2.x", "r2.y")


def test_council_has_a_judge_that_waits_for_more_before_it_speaks() -> None:
    graph = council(members=["x", "y", "y"], judge="z", answer="x", judge_json=True)
    assert graph.agent("judge").reads == ("x", "y.1", "y.2")
    assert graph.agent("judge").policy.first_chunk == 64
    assert '"consensus"' in graph.agent("judge").instructions
    assert graph.agent("answer").reads == ("x", "y.1", "y.2", "judge")


def test_self_mixture_varies_seeds_and_temperatures() -> None:
    *samples, last = self_mixture("x", samples=4, temperatures=(0.5, 1.0)).agents
    assert [agent.sampling.temperature for agent in samples] == [0.5, 1.0, 0.5, 1.0]
    assert len({agent.sampling.seed for agent in samples}) == 4
    assert (last.model, last.sampling.temperature) == ("x", None)


def test_chain_and_tree() -> None:
    assert [agent.reads for agent in chain(["x", "y", "x"]).agents] == [(), ("x.1",), ("y",)]
    grown = tree("x", depth=3, branches=2)
    assert len(grown.agents) == 7
    assert grown.agent("t").reads == ("t.1", "t.2")
    assert grown.agent("t.2").reads == ("t.2.1", "t.2.2")


@pytest.mark.parametrize(
    "make",
    [
        lambda: debate(debaters=["x"]),
        lambda: debate(debaters=["x", "y"], rounds=1),
        lambda: debate(debaters=["x", "y"], answer=3),
        lambda: council(members=[], judge="x", answer="x"),
        lambda: self_mixture("x", samples=0),
        lambda: chain([]),
        lambda: tree("x", depth=0),
    ],
)
def test_impossible_sizes_are_refused_in_one_line(make: Callable[[], Graph]) -> None:
    with pytest.raises(GraphError) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_debaters_and_members_on_one_model_differ_by_their_seeds() -> None:
    given = {"m": Sampling(seed=10), "n": Sampling(seed=3)}
    debating = debate(debaters=["m", "n", "m"], rounds=2, judge="m", sampling=given)
    assert [agent.sampling.seed for agent in debating.agents] == [11, 3, 13, 11, 3, 13, 10]
    sitting = council(members=["m", "m", "n"], judge="m", answer="m", sampling=given)
    assert [agent.sampling.seed for agent in sitting.agents] == [11, 12, 3, 10, 10]
