"""A simulated run: its calls are as fast as the cost model says of so many at once. Exact, in virtual time."""

import pytest
from msgspec import structs

from stairstream.core.graph import Graph, Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import mixture, single
from stairstream.plan.calibrating import calibrate
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.processor import Processor
from stairstream.plan.simulated import SimulatedBackend
from stairstream.plan.simulating import simulate
from stairstream.plan.texts import QUESTION_TOKENS, Lengths
from stairstream.sim.clock import run as run_in_virtual_time

ALONE = EndpointCosts(call_s=0.5, tokens_per_s={1: 8})
SLOWED = EndpointCosts(call_s=0.5, tokens_per_s={1: 8, 3: 2})
ENGINE = EndpointCosts(call_s=0.0, tokens_per_s={1: 8, 4: 4}, prefill_token_s=1 / 128, pass_tokens=64)


def graph_of(policy: Policy) -> Graph:
    sampling = {"m": Sampling(max_tokens=100)}
    return mixture(proposers=["m", "m", "m"], aggregator="m", policy=policy, sampling=sampling)


def lengths_of(graph: Graph, tokens: int, question: int = QUESTION_TOKENS) -> Lengths:
    return Lengths(agents={agent.name: tokens for agent in graph.agents}, question=question)


def test_an_endpoint_whose_calls_do_not_slow_each_other_down() -> None:
    graph = graph_of(PRESETS["wait"])
    found = simulate(graph, {"m": ALONE}, lengths_of(graph, 17))
    assert found.first_token_s == 0.5 + 16 / 8 + 0.5
    assert found.total_s == 0.5 + 16 / 8 + 0.5 + 16 / 8


def test_an_answer_alone_is_as_fast_as_one_though_three_were_slower_before() -> None:
    graph = graph_of(PRESETS["wait"])
    found = simulate(graph, {"m": SLOWED}, lengths_of(graph, 17))
    assert found.first_token_s == 0.5 + 16 / 2 + 0.5
    assert found.total_s == 0.5 + 16 / 2 + 0.5 + 16 / 8


def test_prompts_of_an_engine_share_its_processor() -> None:
    graph = single("m", sampling=Sampling(max_tokens=9))
    alone = simulate(graph, {"m": ENGINE}, lengths_of(graph, 9))
    assert alone.first_token_s == QUESTION_TOKENS / 128
    graph = graph_of(PRESETS["wait"])
    three = simulate(graph, {"m": ENGINE}, lengths_of(graph, 9))
    proposers = [one.first_token_s for one in three.agents if one.name != graph.answer]
    first_s = QUESTION_TOKENS / 128
    second_s = first_s + first_s * 65 / 64
    assert proposers == pytest.approx([first_s, second_s, second_s + first_s * 66 / 64])


def test_a_prompt_is_the_question_and_the_template() -> None:
    costs = {"m": structs.replace(ENGINE, template_tokens=30.0)}
    graph = single("m", sampling=Sampling(max_tokens=9))
    found = simulate(graph, costs, lengths_of(graph, 9, question=34))
    assert found.first_token_s == 64 / 128
    assert found.agents[0].usage is not None and found.agents[0].usage.prompt_tokens == 64


def test_each_token_of_a_prompt_takes_more_for_those_before_it() -> None:
    costs = {"m": structs.replace(ENGINE, prefill_context_s=2**-14)}
    graph = single("m", sampling=Sampling(max_tokens=9))
    found = simulate(graph, costs, lengths_of(graph, 9, question=64))
    assert found.first_token_s == 64 / 128 + 64 * 32 * 2**-14
    assert costs["m"].prompt_s(128, 64) == 64 / 128 + 64 * 96 * 2**-14


def test_an_answer_gets_one_token_in_each_pass_of_a_prompt() -> None:
    async def measure() -> EndpointCosts:
        return (await calibrate(SimulatedBackend(ENGINE, Processor(), 1000, "m"))).costs

    found = run_in_virtual_time(measure())
    assert found.pass_tokens == pytest.approx(ENGINE.pass_tokens, rel=0.3)
    assert found.prefill_token_s == pytest.approx(ENGINE.prefill_token_s)
    assert found.tokens_per_s == {1: pytest.approx(8), 4: pytest.approx(4, rel=0.01)}


def test_a_calibration_finds_template_and_growing_prompts() -> None:
    costs = structs.replace(ENGINE, prefill_token_s=2**-8, prefill_context_s=2**-18, template_tokens=30.0)

    async def measure() -> EndpointCosts:
        return (await calibrate(SimulatedBackend(costs, Processor(), 1000, "m"))).costs

    found = run_in_virtual_time(measure())
    assert found.template_tokens == 30
    assert found.call_s == 0
    assert found.prefill_token_s == pytest.approx(costs.prefill_token_s)
    assert found.prefill_context_s == pytest.approx(costs.prefill_context_s)


@pytest.mark.parametrize("costs", [ALONE, SLOWED], ids=["alone", "slowed"])
def test_a_calibration_finds_the_costs_that_a_simulation_has(costs: EndpointCosts) -> None:
    async def measure() -> EndpointCosts:
        return (await calibrate(SimulatedBackend(costs, Processor(), 1000, "m"), at_once=3)).costs

    found = run_in_virtual_time(measure())
    assert found.call_s == pytest.approx(costs.call_s)
    assert found.pass_tokens is None
    assert found.tokens_per_s[3] == pytest.approx(costs.tokens_per_s[max(costs.tokens_per_s)])


def test_a_stopped_call_gives_the_processor_back() -> None:
    graph = graph_of(Policy(first_chunk=4, growth=2))
    found = simulate(graph, {"m": ENGINE}, lengths_of(graph, 33))
    assert found.reason == "stop" and found.updates >= 1
    assert found.total_s < 60
