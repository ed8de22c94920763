"""The closed forms give what the real engine does in virtual time."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.graph import Graph
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import mixture
from stairstream.engine.run import open_run
from stairstream.plan.forms import (
    Proposer,
    expected_quorum_s,
    free_total_s,
    least_longest_gap_s,
    marks_within,
    pipeline_speedup,
    pipeline_speedup_with_calls,
    prompt_factor,
    staircase_first_token_s,
    step_due_s,
    wait_first_token_s,
)
from stairstream.sim.clock import run as run_in_virtual_time

CALL_S = 0.2
EVEN = [Proposer(first_token_s=0.3, tokens_per_s=50, length=300)] * 3
MIXED = [
    Proposer(first_token_s=0.3, tokens_per_s=50, length=300),
    Proposer(first_token_s=0.9, tokens_per_s=20, length=200),
    Proposer(first_token_s=0.1, tokens_per_s=100, length=10),
]
POLICIES = {**PRESETS, "one of them": Policy(first_chunk=20, growth=2, quorum=1, patience_s=0.1)}


def play(policy: Policy, proposers: Sequence[Proposer], prefill_tokens_per_s: float | None = None) -> Summary:
    async def act() -> Summary:
        names = [f"m{number}" for number in range(len(proposers))]
        backends: dict[str, Backend] = {
            name: ScriptedBackend(
                Script(
                    words=numbered_words(name, one.length),
                    first_token_s=one.first_token_s,
                    token_s=1 / one.tokens_per_s,
                )
            )
            for name, one in zip(names, proposers, strict=True)
        }
        backends["agg"] = ScriptedBackend(
            Script(
                words=numbered_words("w", 300),
                first_token_s=CALL_S,
                token_s=0.02,
                prefill_tokens_per_s=prefill_tokens_per_s or math.inf,
            )
        )
        graph: Graph = mixture(proposers=names, aggregator="agg", policy=policy)
        async with open_run(graph, question("?"), backends) as run:
            return summarize([event async for event in run.events()])

    return run_in_virtual_time(act())


@pytest.mark.parametrize("proposers", [EVEN, MIXED], ids=["even", "mixed"])
@pytest.mark.parametrize("name", POLICIES)
def test_the_first_token_is_when_the_form_says(name: str, proposers: Sequence[Proposer]) -> None:
    policy = POLICIES[name]
    first_s = play(policy, proposers).first_token_s
    if policy.first_chunk == float("inf"):
        assert first_s == pytest.approx(wait_first_token_s(proposers, CALL_S))
    assert first_s == pytest.approx(staircase_first_token_s(policy, proposers, CALL_S))


@pytest.mark.parametrize("growth", [2, 4])
@pytest.mark.parametrize("prefill_tokens_per_s", [None, 2000.0])
def test_a_free_answer_pays_for_each_update_with_its_silence(growth: float, prefill_tokens_per_s: float | None) -> None:
    policy = Policy(first_chunk=8, growth=growth, quorum="all", patience_s=0)
    found = play(policy, EVEN, prefill_tokens_per_s)
    answer = next(one for one in found.agents if one.name == "agg")
    prefill_s = answer.usage.prompt_tokens / prefill_tokens_per_s if prefill_tokens_per_s else 0.0
    silences_s = [CALL_S + prefill_s / answer.steps] * answer.steps
    form_s = free_total_s(step_due_s(policy, EVEN, 8), silences_s, 300, 50)
    assert form_s <= found.total_s <= form_s + (answer.steps - 1) / 50


@pytest.mark.parametrize("name", ["paper", "balanced", "cheap", "careful"])
def test_no_schedule_is_more_even_than_the_bound(name: str) -> None:
    bound_s = least_longest_gap_s(PRESETS[name], 300, 50)
    assert 0 < bound_s <= play(PRESETS[name], EVEN).longest_gap_s + 1e-9
    assert least_longest_gap_s(replace(PRESETS[name], lead=float("inf")), 300, 50) == 0


def test_marks_and_prompts_grow_as_the_policy_says() -> None:
    assert marks_within(Policy(first_chunk=16, growth=1), 80) == (16, 32, 48, 64)
    assert prompt_factor(Policy(first_chunk=16, growth=1), 80) == 1 + 160 / 80
    assert marks_within(Policy(first_chunk=16, growth=2), 200) == (16, 48, 112)
    assert prompt_factor(PRESETS["wait"], 200) == 1
    for growth in (1.5, 2, 4):
        assert all(
            prompt_factor(Policy(first_chunk=8, growth=growth), length) < 1 + growth / (growth - 1)
            for length in range(1, 3000, 37)
        )


def test_the_pipeline_gains_what_its_source_says() -> None:
    assert pipeline_speedup(64, 64) == pytest.approx(32.25, abs=0.005)
    assert pipeline_speedup(16, 64) == pytest.approx(12.96, abs=0.005)
    assert pipeline_speedup(4, 64) == pytest.approx(3.82, abs=0.005)
    assert pipeline_speedup_with_calls(16, 64, step_s=1, call_s=0) == pipeline_speedup(16, 64)
    assert pipeline_speedup_with_calls(16, 64, step_s=1, call_s=1) < pipeline_speedup(16, 64)


def test_a_quorum_of_random_times_is_an_order_statistic() -> None:
    assert expected_quorum_s(1, 4, mean_s=2) == 0.5
    assert expected_quorum_s(3, 3, mean_s=1) == pytest.approx(1 + 1 / 2 + 1 / 3)
