"""Many runs on replicas: one alone is what the engine does, and those that share a replica slow each other down."""

import math
import random
from dataclasses import replace

import pytest

from stairstream.core.costs import Price
from stairstream.core.graph import Graph
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import chain, council, debate, mixture, single, tree
from stairstream.plan.arrivals import Closed, Poisson, Trace
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.fleet.outlook import Load, Outlook, least_replicas, look, size_fleet, stresses
from stairstream.plan.fleet.replaying import Fleet, Replay, RunTimes
from stairstream.plan.fleet.replicas import Size
from stairstream.plan.fleet.schedules import Schedule, schedule_of
from stairstream.plan.simulating import simulate
from stairstream.plan.texts import Lengths

STEADY = {"m": EndpointCosts(call_s=0.25, tokens_per_s={1: 64, 64: 64})}
SHARED = {"m": EndpointCosts(call_s=0.25, tokens_per_s={1: 64}, prefill_token_s=2**-10)}
THREE = ["m"] * 3
GRAPHS = {
    "mixture": mixture(proposers=THREE, aggregator="m"),
    "wait": mixture(proposers=THREE, aggregator="m", policy=PRESETS["wait"]),
    "layers": mixture(proposers=THREE, aggregator="m", layers=2),
    "debate": debate(debaters=THREE, judge="m"),
    "chain": chain(THREE),
    "tree": tree("m", depth=3),
    "council": council(members=THREE, judge="m", answer="m"),
}
ROOMY = Size(slots=64, cache_tokens=math.inf)


def lengths(graph: Graph) -> Lengths:
    return Lengths(agents={agent.name: 100 + 10 * number for number, agent in enumerate(graph.agents)})


def one_call(costs: dict[str, EndpointCosts], tokens: int = 64) -> Schedule:
    return schedule_of(single("m"), costs, Lengths(agents={"m": tokens}))


def replay(schedule: Schedule, costs: dict[str, EndpointCosts], fleet: Fleet, *at_s: float) -> list[RunTimes]:
    playing = Replay(fleet, costs, [schedule], random.Random(0))
    playing.play(Trace(at_s=at_s), 1000)
    return playing.runs


@pytest.mark.parametrize("name", GRAPHS)
def test_one_run_alone_is_as_the_engine_plays_it(name: str) -> None:
    # steps that are due by patience, and calls that are stopped before their first token, are a little off
    near = 0.02 if name in ("tree", "council") else 1e-9
    graph = GRAPHS[name]
    expected = simulate(graph, STEADY, lengths(graph))
    (run,) = replay(schedule_of(graph, STEADY, lengths(graph)), STEADY, Fleet(replicas={"m": 1}, size=ROOMY), 0.0)
    assert run.first_token_s == pytest.approx(expected.first_token_s, rel=near)
    assert run.total_s == pytest.approx(expected.total_s, rel=near)


def test_two_answers_share_a_replica_that_gets_no_faster() -> None:
    costs = {"m": EndpointCosts(call_s=0.25, tokens_per_s={1: 64})}
    schedule = one_call(costs, 65)
    alone = replay(schedule, costs, Fleet(replicas={"m": 1}, size=ROOMY), 0.0)
    both = replay(schedule, costs, Fleet(replicas={"m": 1}, size=ROOMY), 0.0, 0.0)
    apart = replay(schedule, costs, Fleet(replicas={"m": 2}, size=ROOMY), 0.0, 0.0)
    assert [one.total_s for one in alone] == [1.25]
    assert [one.total_s for one in both] == [2.25, 2.25]
    assert [one.total_s for one in apart] == [1.25, 1.25]


def test_calls_wait_for_a_slot() -> None:
    schedule = one_call(STEADY, 65)
    one_slot = Size(slots=1, cache_tokens=0)
    runs = replay(schedule, STEADY, Fleet(replicas={"m": 1}, size=one_slot), 0.0, 0.0)
    assert [one.total_s for one in runs] == [1.25, 2.5]


def test_prompts_slow_down_who_decodes_and_half_the_time_is_theirs() -> None:
    costs = {"m": EndpointCosts(call_s=0.0, tokens_per_s={1: 64, 64: 64}, prefill_token_s=0.02)}
    schedule = one_call(costs, 65)  # 50 tokens of prompt: 1 s, then 1 s of decoding
    runs = replay(schedule, costs, Fleet(replicas={"m": 1}, size=ROOMY), 0.0, 1.0)
    assert [one.first_token_s for one in runs] == pytest.approx([1.0, 2.0])
    assert [one.total_s for one in runs] == pytest.approx([3.0, 3.0])


def test_an_answer_gets_one_token_in_each_pass_of_a_prompt() -> None:
    costs = {"m": EndpointCosts(call_s=0.0, tokens_per_s={1: 64, 64: 64}, prefill_token_s=0.02, pass_tokens=25)}
    schedule = one_call(costs, 65)  # 50 tokens of prompt: 1 s, then 1 s of decoding
    runs = replay(schedule, costs, Fleet(replicas={"m": 1}, size=ROOMY), 0.0, 1.0)
    two_passes_s = 2 * (25 + 1) * 0.02
    assert [one.first_token_s for one in runs] == pytest.approx([1.0, two_passes_s])
    assert [one.total_s for one in runs] == pytest.approx([1.0 + two_passes_s + 62 / 64, two_passes_s + 1.0])


def test_prompts_that_cost_nothing_share_passes_too() -> None:
    costs = {"m": EndpointCosts(call_s=0.0, tokens_per_s={1: 64, 64: 64}, pass_tokens=25)}
    runs = replay(one_call(costs, 65), costs, Fleet(replicas={"m": 1}, size=ROOMY), 0.0, 0.5)
    assert [one.total_s for one in runs] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("name", GRAPHS)
def test_one_run_alone_is_as_the_engine_plays_it_where_prompts_share_passes(name: str) -> None:
    costs = {"m": EndpointCosts(call_s=0.0, tokens_per_s={1: 64, 4: 24}, prefill_token_s=2**-10, pass_tokens=64)}
    graph = GRAPHS[name]
    expected = simulate(graph, costs, lengths(graph))
    (run,) = replay(schedule_of(graph, costs, lengths(graph)), costs, Fleet(replicas={"m": 1}, size=ROOMY), 0.0)
    assert run.first_token_s == pytest.approx(expected.first_token_s, rel=0.02)
    assert run.total_s == pytest.approx(expected.total_s, rel=0.02)


def outlook_of(fleet: Fleet, load: Load, prices: dict[str, Price] | None = None) -> Outlook:
    return look("x", fleet, load, SHARED, prices or {}, per_hour=2.0)


def test_a_prefix_cache_helps_only_with_affinity_or_room() -> None:
    graph = mixture(proposers=["m"] * 2, aggregator="m", policy=replace(PRESETS["paper"], first_chunk=4))
    load = Load(
        schedules=[schedule_of(graph, SHARED, Lengths(agents=dict.fromkeys(("m.1", "m.2", "m"), 40)))],
        arrivals=Poisson(per_s=0.5),
        duration_s=100,
    )
    cached = {
        name: outlook_of(fleet, load).tightest.cached_share
        for name, fleet in {
            "near": Fleet(replicas={"m": 4}, size=ROOMY),
            "far": Fleet(replicas={"m": 4}, size=ROOMY, affinity=False),
            "tiny": Fleet(replicas={"m": 4}, size=Size(slots=64, cache_tokens=10)),
        }.items()
    }
    assert cached["near"] > cached["far"] > cached["tiny"] == 0


@pytest.mark.slow
def test_a_fleet_is_sized_and_stressed() -> None:
    load = Load(schedules=[one_call(SHARED)], arrivals=Poisson(per_s=4), duration_s=120)
    least = least_replicas(load, SHARED, 8)
    assert least == {"m": 5}  # 4 per second, a second of decoding and 50 / 1024 s of prompt each
    told: list[int] = []
    small = Fleet(replicas=least, size=Size(slots=8, cache_tokens=0))
    fleet = size_fleet(small, load, lambda one: outlook_of(one, load), 0.5, told.append)
    assert fleet is not None
    assert fleet.replicas["m"] == 4 + len(told)
    found = outlook_of(fleet, load, {"m": Price(prompt=1, completion=2)})
    assert found.first_token_p99_s <= 0.5
    assert found.price == pytest.approx(1000 * (50 + 64 * 2) / 1e6)
    assert found.replicas_price == pytest.approx(1000 * 2.0 * fleet.replicas["m"] / 3600 / found.runs_per_s)
    assert 0.3 < found.tightest.full_share < 1
    names = stresses(fleet, load, "m")
    assert list(names) == ["load x 1.2", "load x 1.5", "1 of m lost", "without affinity"]
    other, more = names["load x 1.5"]
    assert outlook_of(other, more).first_token_p99_s > found.first_token_p99_s
    assert size_fleet(small, load, lambda one: outlook_of(one, load), 0.1, told.append) is None


def test_users_ask_again_after_they_have_read() -> None:
    load = Load(schedules=[one_call(STEADY, 65)], arrivals=Closed(users=20, think_s=8.75), duration_s=200)
    found = look("x", Fleet(replicas={"m": 20}, size=ROOMY), load, STEADY, {})
    assert found.runs_per_s == pytest.approx(2.0, rel=0.05)
    assert found.total_p50_s == pytest.approx(1.25)


def test_a_fleet_that_is_too_small_says_never() -> None:
    load = Load(schedules=[one_call(SHARED)], arrivals=Poisson(per_s=10), duration_s=40)
    found = outlook_of(Fleet(replicas={"m": 1}, size=Size(slots=8, cache_tokens=0)), load)
    assert found.total_p99_s == math.inf
    assert found.tightest.full_share == pytest.approx(1, abs=0.05)


def test_the_same_seed_gives_the_same_fleet() -> None:
    load = Load(schedules=[one_call(SHARED)], arrivals=Poisson(per_s=4), duration_s=60)
    fleet = Fleet(replicas={"m": 6}, size=ROOMY)
    assert outlook_of(fleet, load) == outlook_of(fleet, load)
