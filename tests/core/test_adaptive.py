"""A policy from rates: early, without stalls, within its budget."""

import math
from dataclasses import replace

import pytest

from stairstream.backends.scripted import Script, numbered_words
from stairstream.core.adaptive import Goals, Rate, adapt, adapt_graph, observe, prompt_factor
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS
from tests.engine.staircase import mixture, play, scripted

QUICK = Rate(first_token_s=0.2, tokens_per_s=50, answer_tokens=300)


RICH = Goals(max_prompt_tokens_factor=100)


def test_first_chunk_covers_the_silence_of_a_call_at_reading_speed() -> None:
    policy = adapt([QUICK] * 3, QUICK, replace(RICH, reading_tokens_per_s=10))
    assert policy.first_chunk == math.ceil(0.2 / (policy.slope / 10 - 1 / 50))
    slow_call, free = replace(QUICK, first_token_s=2.0), replace(PRESETS["balanced"], lead=math.inf)
    assert adapt([QUICK] * 3, slow_call, RICH, free).first_chunk == 25


def test_a_model_slower_than_the_reader_is_silent_for_a_quarter_of_its_speech_at_most() -> None:
    slow = Rate(first_token_s=1.0, tokens_per_s=8, answer_tokens=300)
    assert adapt([QUICK] * 3, slow, RICH).first_chunk == 32


def test_smaller_budgets_mean_larger_first_chunks_and_growth_stays_within_two() -> None:
    policies = [adapt([QUICK] * 3, QUICK, Goals(max_prompt_tokens_factor=factor)) for factor in (1.2, 2, 3, 6, 12)]
    chunks = [policy.first_chunk for policy in policies]
    assert chunks == sorted(chunks, reverse=True)
    assert all(policy.growth <= 2 for policy in policies)
    for policy, factor in zip(policies[1:], (2, 3, 6, 12), strict=True):
        assert prompt_factor([QUICK] * 3, QUICK, policy) <= factor
    assert policies[0].first_chunk == math.inf


@pytest.mark.parametrize("factor", [1.6, 2, 3, 5])
@pytest.mark.parametrize("speed", [0.5, 1, 2])
def test_budget_holds_in_a_run(factor: float, speed: float) -> None:
    """Scripts count their prompts in words, so the run's own numbers are exact."""
    backends = scripted(first_token_s=0.25, token_s=0.03125, length=512)
    agg = Script(words=numbered_words("agg", 512), first_token_s=0.25, token_s=0.03125 / speed)
    backends |= {"agg": scripted(agg=agg)["agg"]}
    _, warm_up = play(mixture(PRESETS["wait"]), backends)
    graph = mixture(PRESETS["balanced"])
    rates = observe({}, graph, warm_up)
    goals = Goals(max_prompt_tokens_factor=factor)
    policy = adapt_graph(graph, rates, goals, ["agg"]).agent("agg").policy
    _, events = play(mixture(policy), backends)
    own, wait = (summarize(run).agents[-1].usage.prompt_tokens for run in (events, warm_up))
    assert own <= factor * wait


def test_unknown_rates_leave_a_policy_as_it_is() -> None:
    graph = mixture(PRESETS["cheap"])
    assert adapt_graph(graph, {}, Goals(), ["agg"]) == graph


def test_moving_estimates_follow_new_runs() -> None:
    graph = mixture(PRESETS["wait"])
    _, events = play(graph, scripted(first_token_s=0.5, token_s=0.25, length=16))
    first = observe({}, graph, events)
    assert first["p1"] == Rate(first_token_s=0.5, tokens_per_s=4, answer_tokens=16)
    _, later = play(graph, scripted(first_token_s=0.5, token_s=0.125, length=16))
    assert observe(first, graph, later)["p1"].tokens_per_s == pytest.approx(4 + 0.3 * 4)
