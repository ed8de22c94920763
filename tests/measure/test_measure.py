"""The measuring code in virtual time: exact times, turns of systems, arrivals; and reports into which nothing gets."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.costs import Price
from stairstream.core.errors import ConfigError
from stairstream.core.messages import question
from stairstream.core.policy import PRESETS
from stairstream.core.topologies import mixture, single
from stairstream.engine.run import Run, open_run
from stairstream.measure.comparing import Change, compare
from stairstream.measure.report.page import make_page
from stairstream.measure.running import Plan, System, measure
from stairstream.measure.samples import SAMPLES_FILE, Sample, read_samples, write_samples
from stairstream.measure.statistics import quantile, rows_of, tables_of
from stairstream.measure.workload import BUILT_IN, Ask, read_workload, trace_of
from stairstream.plan.arrivals import Arrivals, Closed, Poisson, Trace, choose_arrivals
from stairstream.sim.clock import run as run_in_virtual_time

SCRIPT = Script(words=numbered_words("w", 8), first_token_s=0.5, token_s=0.25)
GRAPHS = {
    "single": single("m"),
    "wait": mixture(proposers=["m", "m"], aggregator="m", policy=PRESETS["wait"]),
    "soon": mixture(proposers=["m", "m"], aggregator="m", policy=replace(PRESETS["paper"], first_chunk=2)),
}


def systems(script: Script = SCRIPT, names: Sequence[str] = tuple(GRAPHS)) -> list[System]:
    def opener(name: str) -> System:
        def start(ask: Ask) -> AbstractAsyncContextManager[Run]:
            return open_run(GRAPHS[name], question(ask.text), {"m": ScriptedBackend(script)})

        return System(name=name, open=start, prices={"m": Price(prompt=1, completion=1)})

    return [opener(name) for name in names]


def play(arrivals: Arrivals, plan: Plan | None = None) -> list[Sample]:
    plan = plan or Plan(systems=systems(), asks=BUILT_IN[:2], arrivals=arrivals, repetitions=2, warm_ups=0)
    return run_in_virtual_time(measure(replace(plan, arrivals=arrivals)))


def test_one_user_has_the_systems_in_turn_at_each_question() -> None:
    found = play(Closed(users=1))
    assert [one.system for one in found[:6]] == ["single", "wait", "soon", "wait", "soon", "single"]
    assert {one.question for one in found[:3]} == {"built-in-0"}
    assert len(found) == 3 * 2 * 2
    by_name = {one.system: one for one in found}
    assert (by_name["single"].first_token_s, by_name["single"].total_s) == (0.5, 2.25)
    assert by_name["wait"].first_token_s == 2.75
    assert by_name["soon"].first_token_s == 1.25
    assert [one.at_s for one in found[:2]] == [0, 2.25]


def test_runs_that_overlap_are_of_one_system() -> None:
    found = play(Closed(users=2))
    assert [one.system for one in found[:6]] == ["single", "single", "wait", "wait", "soon", "soon"]
    assert found[0].at_s == found[1].at_s == 0


def test_a_trace_and_poisson_do_not_wait_for_answers() -> None:
    found = play(Trace(at_s=(0.0, 0.25)))
    assert [one.at_s for one in found[:2]] == [0, 0.25]
    plan = Plan(systems=systems(), asks=BUILT_IN * 25, arrivals=Closed(users=1), repetitions=1, warm_ups=0)
    at_s = [one.at_s for one in play(Poisson(per_s=4), plan) if one.system == "single"]
    assert 15 < max(at_s) < 40  # 100 at 4 per second: 25 s on average
    assert [one.at_s for one in play(Poisson(per_s=4), plan) if one.system == "single"] == at_s


def test_warm_ups_do_not_count_and_advance_is_told_of_each_run() -> None:
    told: list[int] = []
    plan = Plan(systems=systems(), asks=BUILT_IN[:1], arrivals=Closed(users=1), repetitions=2, warm_ups=1)
    found = run_in_virtual_time(measure(plan, told.append))
    assert len(told) == plan.num_runs == 9
    assert len(found) == 6
    assert min(one.at_s for one in found) > 0


def test_a_run_that_fails_is_counted_and_has_no_time() -> None:
    broken = replace(SCRIPT, fault=Fault(kind="status_500"))
    plan = Plan(systems=systems(broken, ["single"]), asks=BUILT_IN[:1], arrivals=Closed(users=1), warm_ups=0)
    (row,) = rows_of(run_in_virtual_time(measure(plan)))
    assert (row.num_runs, row.num_failed, row.first_token) == (3, 3, ())
    assert "failed" in " ".join(tables_of([row], "t")[1].notes)


def test_numbers_of_a_row() -> None:
    rows = {row.system: row for row in rows_of(play(Closed(users=1)))}
    assert [one.share for one in rows["wait"].first_token] == [0.5, 0.95, 0.99]
    assert rows["wait"].first_token[0].value == 2.75
    assert rows["wait"].calls == 3
    assert rows["wait"].seen_share == 1
    assert rows["single"].seen_share is None
    assert rows["single"].cost is not None
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([7.0], 0.99) == 7


def test_samples_survive_their_file_and_two_are_compared(tmp_path: Path) -> None:
    found = play(Closed(users=1))
    write_samples(found, tmp_path / SAMPLES_FILE)
    assert read_samples(tmp_path) == found
    slower = [
        Sample(**{**{key: getattr(one, key) for key in one.__struct_fields__}, "total_s": one.total_s * 2})
        for one in found
    ]
    changes = {(one.system, one.number): one for one in compare(found, slower)}
    assert changes["wait", "total"].ratio == 2
    assert changes["wait", "first token"].ratio == 1
    with pytest.raises(ConfigError, match="no system in common"):
        compare(found, [])
    with pytest.raises(ConfigError, match="bench --out"):
        read_samples(tmp_path / "nothing")


def test_a_pipeline_whose_policy_has_changed_is_compared_with_itself() -> None:
    found = play(Closed(users=1))
    own = next(one.system for one in found if one.system not in ("single", "wait"))
    renamed = [msgspec.structs.replace(one, system="own policy") if one.system == own else one for one in found]
    alone = [one for one in renamed if one.system == "single"]
    assert systems_of(compare(found, renamed)) == ["single", "wait", f"{own}, then own policy"]
    assert systems_of(compare(found, alone)) == ["single"]


def systems_of(changes: Sequence[Change]) -> list[str]:
    return list(dict.fromkeys(one.system for one in changes))


def test_the_page_holds_no_markup_of_models_and_no_address() -> None:
    hostile = replace(SCRIPT, words=("<script>alert(1)</script>", " <img src=x onerror=alert(1)>", ' "&'))
    plan = Plan(systems=systems(hostile), asks=BUILT_IN[:1], arrivals=Closed(users=1), warm_ups=0)
    found = run_in_virtual_time(measure(plan))
    rows = rows_of(found)
    page = make_page("a <b>", {"from <i>": "\x00<i>"}, tables_of(rows, "t <u>"), rows, found)
    for tag in ("<script", "<img", "<i>", "<b>", "<u>", "http://", "https://"):
        assert tag not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<svg") == 2 + 3


def test_workloads(tmp_path: Path) -> None:
    file = tmp_path / "asks.jsonl"
    rows = [{"prompt": "one?", "at_s": 1}, {"instruction": "two?", "id": "b", "outputs": {"m": "x"}, "at_s": 0.5}]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    asks = read_workload(file, None, in_order=True)
    assert [(ask.id, ask.text) for ask in asks] == [("1", "one?"), ("b", "two?")]
    assert trace_of(asks) == (1, 0.5)
    assert {ask.id for ask in read_workload(file, 2)} == {"1", "b"}
    file.write_text('{"id": "x"}\n')
    with pytest.raises(ConfigError, match="question 1: no `prompt`"):
        read_workload(file, None)
    with pytest.raises(ConfigError, match="no at_s"):
        trace_of(BUILT_IN)
    with pytest.raises(ConfigError, match="--users and --rate"):
        choose_arrivals(1, 2.0, None)


def test_the_same_code_measures_in_real_time() -> None:
    quick = replace(SCRIPT, first_token_s=0.0, token_s=0.0)
    plan = Plan(systems=systems(quick), asks=BUILT_IN[:1], arrivals=Closed(users=2), repetitions=1, warm_ups=0)
    assert [one.is_whole for one in asyncio.run(measure(plan))] == [True] * 3
