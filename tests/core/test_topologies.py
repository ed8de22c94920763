"""Names, readers, seeds and policies of the ready-made graphs."""

import pytest

from stairstream.core.errors import GraphError
from stairstream.core.graph import Graph, Sampling
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import mixture, single


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
