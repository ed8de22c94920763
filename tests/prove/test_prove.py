"""`stairstream prove`: the engine holds for many seeds, a failing one is told so that it can be mended."""

import json
import math
import random
import re
from collections import Counter
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from stairstream.backends.scripted import FaultKind
from stairstream.cli.main import main
from stairstream.core.graph import Agent
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import mixture
from stairstream.sim.prove.case import Case, ModelCase
from stairstream.sim.prove.drawing import draw_case
from stairstream.sim.prove.drawing_graphs import draw_policy
from stairstream.sim.prove.invariants import violations
from stairstream.sim.prove.proving import Proof, judge, prove, prove_seeds, shrink_failure
from stairstream.sim.prove.rules import Rules
from stairstream.sim.prove.running import play
from tests.prove.bugs import BUGS
from tests.prove.planting import planted

BUG = {bug.name: bug for bug in BUGS}


FIRST = range(0, 2000, 500)


@cache
def proof_from(first: int) -> Proof:
    return prove_seeds(range(first, first + 500))


@pytest.mark.parametrize("first", FIRST)
def test_seeds_hold(first: int) -> None:
    assert proof_from(first).failures == {}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(2000, 22_000, 5000))
def test_more_seeds_hold(first: int) -> None:
    assert prove_seeds(range(first, first + 5000)).failures == {}


@pytest.mark.parametrize("seed", [2003140, 3012405, 3058591, 4156910, 6041080, 12616255, 30757102])
def test_a_run_that_was_judged_wrongly_holds(seed: int) -> None:
    """A limit that the endpoint had reached, a context that was full at the end, more than 40 steps, one that left in
    the instant in which its reader began to look, words that were held back and shown in the step after theirs, and a
    context that was full for the next holder, who read nothing more."""
    assert judge(draw_case(seed))[1] == []


def test_a_word_that_comes_as_late_as_was_foreseen_is_in_time() -> None:
    case = draw_case(6125849)
    assert judge(case)[1] == []
    speechless = {name: replace(model, tokens=()) for name, model in case.models.items()}
    assert not any("gain nothing" in line for line in judge(replace(case, models=speechless))[1])


@pytest.mark.parametrize("seed", [8053413, 10514999, 10545489, 12102407, 12581918, 12654771, 20713947])
def test_a_run_that_went_wrong_holds(seed: int) -> None:
    """Agents that nobody read before they had begun, a stop string that began in words of a lost process, an answer
    whose last words came ever more slowly, patience that began anew when tokens had been counted too many (two), an
    answer that ended 5.2 % later than with `wait`, where 5 % were foreseen, and a first one to the first mark whose
    reader looked too late."""
    assert judge(draw_case(seed))[1] == []


def test_the_reference_has_chunks_that_double_from_the_40th_on() -> None:
    rules = Rules(Agent(name="a", model="m", policy=PRESETS["paper"]), [])
    assert [rules.mark(k) for k in (0, 1, 39, 40, 41)] == [8, 16, 320, 336, 368]
    assert [rules.chunk(k) for k in (0, 39, 40, 41)] == [8, 8, 16, 32]


def test_the_same_seed_is_the_same_case_and_the_same_run() -> None:
    for seed in range(20):
        assert draw_case(seed) == draw_case(seed)
        one, other = play(draw_case(seed)), play(draw_case(seed))
        assert one.events == other.events
        assert [str(entry) for entry in one.tape.entries] == [str(entry) for entry in other.tape.entries]


def test_seeds_cover_every_fault_reason_and_topology() -> None:
    """Else many seeds without a violation would mean little."""
    features = sum((proof_from(first).features for first in FIRST), Counter[str]())
    groups = {"topology": 8, "fault": len(get_args(FaultKind)), "agents": 8, "layers": 4, "usage": 4, "policy": 6}
    groups["model"] = len(fields(ModelCase)) - len(("name", "tokens", "faults", "usage"))
    found = {group: sum(name.startswith(f"{group}: ") for name in features) for group in groups}
    assert found == groups
    ends = {name.removeprefix("an agent ends by ") for name in features if name.startswith("an agent ends by ")}
    assert ends == {
        "stop",
        "length",
        "content_filter",
        "tool_calls",
        "failed",
        "dropped",
        "cancelled",
        "agreed",
        "deadline",
        "budget",
        "shutdown",
    }
    assert {"note: retry", "note: hedge", "note: failover", "note: full", "a call of a tool"} <= set(features)


def test_a_failing_case_is_shrunk() -> None:
    bug = BUG["a chunk begins one delta early"]
    case = draw_case(bug.seed)
    with planted(bug):
        found = judge(case)[1]
        small, still = shrink_failure(case, found)
    assert still and still[0].partition(":")[0] == found[0].partition(":")[0]
    assert len(small.graph.agents) == 2
    assert sum(len(model.tokens) for model in small.models.values()) <= 6
    assert all(not model.faults for model in small.models.values())
    assert judge(small)[1] == []


def test_processes_share_the_seeds() -> None:
    told: list[int] = []
    proof = prove(100, 40, processes=2, tell=lambda one: told.append(one.seeds))
    assert (proof.seeds, told) == (40, [40])
    assert proof.features == prove_seeds(range(100, 140)).features


def test_time_that_is_over_ends_it() -> None:
    assert prove(0, 10, until_s=-math.inf, tell=lambda one: None) == Proof()


def test_a_run_that_hangs_is_a_violation() -> None:
    graph = mixture(proposers=["m0"], aggregator="m1")
    models = {name: ModelCase(name=name, tokens=("a", "b")) for name in ("m0", "m1")}
    case = Case(seed=0, topology="mixture", graph=graph, models=models)
    assert violations(play(case)) == []
    never = replace(models["m0"], first_token_s=math.inf)
    (line,) = violations(play(replace(case, models={**models, "m0": never})))
    assert line.startswith("it ends: deadlock")


def test_one_seed_is_replayed_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("seed 7: ") and out.endswith("seed 7: no violation\n")
    assert re.search(r"^\S+ +.*◆", out, re.MULTILINE)


def test_a_summary_says_what_the_seeds_have_been_through(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["prove", "--seeds", "30", "--from", "50", "--out", str(tmp_path / "proof.json")]) == 0
    assert "30 seeds from 50, 3 of them twice, 0 violations; " in capsys.readouterr().out
    written = json.loads((tmp_path / "proof.json").read_text())
    assert (written["seeds"], written["violations"]) == ({"from": 50, "count": 30, "run twice": 3}, 0)
    assert sum(count for name, count in written["runs with"].items() if name.startswith("topology: ")) == 30


def test_a_failing_seed_is_told_with_its_command_and_its_shrunk_form(capsys: pytest.CaptureFixture[str]) -> None:
    bug = BUG["a session stays open"]
    with planted(bug):
        assert main(["prove", "--seeds", "1", "--from", str(bug.seed)]) == 1
    said = capsys.readouterr()
    assert f"replay it: stairstream prove --seed {bug.seed}" in said.out
    assert "nothing outlives it: " in said.out.partition("shrunk to:")[2]
    assert said.err.endswith(f"violate an invariant: {bug.seed}\n")


def test_policies_are_drawn_of_all_kinds() -> None:
    drawn = [draw_policy(random.Random(seed)) for seed in range(400)]
    assert {policy.quorum for policy in drawn} == {1, 2, 3, "all", "most"}
    assert {policy.first_chunk == math.inf for policy in drawn} == {False, True}
    assert min(policy.lead for policy in drawn) < 0 and max(policy.lead for policy in drawn) == math.inf
