"""Who gets what of a request."""

from dataclasses import replace

from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.options import RequestOptions, ask_of, begin_with, derive_seed, leave_alone
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import mixture, self_mixture

MIX = mixture(proposers=["small", "other"], aggregator="big", policy=PRESETS["paper"])


def others(graph: Graph) -> list[Agent]:
    return [agent for agent in graph.agents if agent.name != graph.answer]


def test_nothing_asked_leaves_the_graph_as_it_is() -> None:
    assert ask_of(MIX, RequestOptions()) is MIX


def test_sampling_goes_to_the_answering_agent_alone() -> None:
    asked = ask_of(MIX, RequestOptions(max_tokens=7, temperature=0.5, top_p=0.9, stop=("END",)))
    answer = asked.agent(asked.answer)
    assert answer.sampling == Sampling(max_tokens=7, temperature=0.5, top_p=0.9, stop=("END",))
    assert answer.policy == PRESETS["paper"]
    assert others(asked) == others(MIX)


def test_stop_strings_of_the_pipeline_stay() -> None:
    stopping = replace(MIX, agents=tuple(replace(agent, sampling=Sampling(stop=("</s>", "x"))) for agent in MIX.agents))
    asked = ask_of(stopping, RequestOptions(stop=("x", "y")))
    assert asked.agent(asked.answer).sampling.stop == ("</s>", "x", "y")


def test_every_agent_has_a_seed_of_its_own_and_the_answer_the_requests() -> None:
    graph = self_mixture("m", samples=3)
    seeds = [agent.sampling.seed for agent in ask_of(graph, RequestOptions(seed=7)).agents]
    assert len(set(seeds)) == 4
    assert ask_of(graph, RequestOptions(seed=7)).agent(graph.answer).sampling.seed == 7
    assert seeds == [agent.sampling.seed for agent in ask_of(graph, RequestOptions(seed=7)).agents]
    assert 0 <= derive_seed(-5, "p1") < 2**31


def test_with_tools_or_a_format_the_answer_waits_and_proposers_know_nothing_of_it() -> None:
    for form in (RequestOptions(tools=b"[]"), RequestOptions(response_format=b"{}")):
        asked = ask_of(MIX, form)
        answer = asked.agent(asked.answer)
        assert answer.policy == PRESETS["wait"]
        assert answer.extras.needs == {"tools" if form.tools else "response_format"}
        assert others(asked) == others(MIX)


def test_words_that_the_client_began_are_the_answers() -> None:
    begun = begin_with(MIX, "The sky")
    assert begun.agent(begun.answer).begun == "The sky"
    assert others(begun) == others(MIX)
    assert begin_with(MIX, "") is MIX


def test_the_answering_agent_alone_reads_nobody() -> None:
    alone = leave_alone(MIX)
    assert [agent.name for agent in alone.agents] == [MIX.answer]
    assert alone.agents[0].reads == ()
