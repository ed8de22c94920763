"""A simulated run: its calls are as fast as the cost model says of so many at once. Exact, in virtual time."""

from collections.abc import Mapping

import pytest

from stairstream.core.graph import Graph, Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import mixture, single
from stairstream.plan.calibrating import calibrate
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.processor import Processor
from stairstream.plan.simulated import SimulatedBackend
from stairstream.plan.simulating import QUESTION_TOKENS, simulate
from stairstream.sim.clock import run as run_in_virtual_time

ALONE = EndpointCosts(call_s=0.5, tokens_per_s={1: 8})
SLOWED = EndpointCosts(call_s=0.5, tokens_per_s={1: 8, 3: 2})
ENGINE = EndpointCosts(call_s=0.0, tokens_per_s={1: 8, 4: 4}, prefill_token_s=1 / 128, pass_tokens=64)


def graph_of(policy: Policy) -> Graph:
    sampling = {"m": Sampling(max_tokens=100)}
    return mixture(proposers=["m", "m", "m"], aggregator="m", policy=policy, sampling=sampling)


def lengths_of(graph: Graph, tokens: int) -> Mapping[str, int]:
    return {agent.name: tokens for agent in graph.agents}


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
    alone = simulate(single("m", sampling=Sampling(max_tokens=9)), {"m": ENGINE}, {"m": 9, "answer": 9})
    assert alone.first_token_s == QUESTION_TOKENS / 128
    graph = graph_of(PRESETS["wait"])
    three = simulate(graph, {"m": ENGINE}, lengths_of(graph, 9))
    proposers = [one.first_token_s for one in three.agents if one.name != graph.answer]
    first_s = QUESTION_TOKENS / 128
    second_s = first_s + first_s * 65 / 64
    assert proposers == pytest.approx([first_s, second_s, second_s + first_s * 66 / 64])


def test_an_answer_gets_one_token_in_each_pass_of_a_prompt() -> None:
    async def measure() -> EndpointCosts:
        return (await calibrate(SimulatedBackend(ENGINE, Processor(), 1000, "m"))).costs

    found = run_in_virtual_time(measure())
    assert found.pass_tokens == pytest.approx(ENGINE.pass_tokens, rel=0.3)
    assert found.prefill_token_s == pytest.approx(ENGINE.prefill_token_s)
    assert found.tokens_per_s == {1: pytest.approx(8), 4: pytest.approx(4, rel=0.01)}


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
