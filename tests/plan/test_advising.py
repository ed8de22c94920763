"""The frontier keeps what nothing beats, and the advice says plainly when waiting is better."""

from dataclasses import replace

import yaml

from stairstream.config.policies import PolicyChoice
from stairstream.config.reading import Where
from stairstream.core.costs import Price
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import mixture
from stairstream.plan.advising import advise, as_yaml, frontier, with_quality
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.sweeping import Outcome, candidates, num_candidates, sweep
from stairstream.plan.texts import Lengths

GRAPH = mixture(proposers=("a", "b", "c"), aggregator="d")
PRICES = dict.fromkeys("abcd", Price(prompt=1, completion=2))


def outcome(name: str, **numbers: float) -> Outcome:
    return Outcome(
        name=name,
        policy=PRESETS.get(name, Policy()),
        first_token_s=numbers.get("first", 1.0),
        longest_gap_s=numbers.get("gap", 0.1),
        total_s=numbers.get("total", 10.0),
        seen_share=numbers.get("seen", 0.7),
        calls=4,
        prompt_tokens=numbers.get("prompt", 1000.0),
        money=None,
    )


WAIT, SINGLE = outcome("wait", first=8.0, seen=1.0), outcome("single", first=0.2, total=4.0)


def costs_of(call_s: float) -> dict[str, EndpointCosts]:
    return dict.fromkeys("abcd", EndpointCosts(call_s=call_s, tokens_per_s={1: 50.0}))


def swept(call_s: float, length: int) -> list[Outcome]:
    lengths = Lengths(agents={agent.name: length for agent in GRAPH.agents})
    return sweep(GRAPH, costs_of(call_s), [lengths], PRICES)


def test_what_another_beats_in_everything_is_not_on_the_frontier() -> None:
    soon, worse = outcome("soon", first=1.0), outcome("worse", first=2.0, total=12.0)
    frugal = outcome("frugal", first=3.0, prompt=500.0)
    assert [one.name for one in frontier([SINGLE, WAIT, soon, worse, frugal])] == ["soon", "frugal", "wait"]


def test_advice_keeps_its_bounds() -> None:
    good = outcome("good", first=1.5)
    beyond = {
        "late": outcome("late", first=1.0, total=10.6),
        "dear": outcome("dear", first=1.0, prompt=3100.0),
        "halting": outcome("halting", first=1.0, gap=7.5),
        "poor": replace(outcome("poor", first=1.0), quality=0.9),
    }
    assert advise([SINGLE, WAIT, good, *beyond.values()]).chosen.name == "good"
    assert advise([SINGLE, WAIT, good, beyond["dear"]], most_prompt_tokens=4).chosen.name == "dear"


def test_short_texts_and_slow_calls_are_told_to_wait() -> None:
    advice = advise(swept(call_s=2.0, length=20))
    assert advice.chosen.name == "wait"
    assert advice.reasons[0].startswith("Use wait")
    assert as_yaml(PRESETS["wait"]) == "policy: wait"


def test_long_texts_and_quick_calls_are_told_to_begin_early() -> None:
    outcomes = swept(call_s=0.3, length=300)
    assert len(outcomes) == num_candidates() == 1 + len(candidates())
    by_name = {one.name: one for one in outcomes}
    chosen = advise(outcomes).chosen
    assert chosen.first_token_s < 0.25 * by_name["wait"].first_token_s
    assert chosen.total_s <= 1.05 * by_name["wait"].total_s
    assert by_name["single"].first_token_s == 0.3
    money = by_name["wait"].money
    assert money is not None and money > 0


def test_quality_is_that_of_the_same_numbers() -> None:
    balanced, wait = with_quality([outcome("balanced"), WAIT], {PRESETS["balanced"]: 0.964})
    assert (balanced.quality, wait.quality) == (0.964, 1.0)
    assert with_quality([SINGLE], {})[0].quality is None


def test_the_yaml_is_read_as_the_same_policy() -> None:
    for policy in candidates().values():
        raw = yaml.safe_load(as_yaml(policy))["policy"]
        assert PolicyChoice.from_raw(raw, Where(file="f")).policy == policy


def test_of_outcomes_that_are_the_same_one_is_shown_and_wait_before_others() -> None:
    same = [outcome(name, first=8.0, seen=1.0) for name in ("a", "b")]
    assert [one.name for one in frontier([SINGLE, *same, WAIT])] == ["wait"]
