"""A run as a trace: what Perfetto and Chrome demand of the format, and what one sees in it."""

import json
import shutil
from collections import defaultdict
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.server.history.keeping import make_past_run
from stairstream.server.history.trace_file import make_trace_file
from tests.server.finished import finish

pytestmark = pytest.mark.manners

Json = dict[str, Any]


def trace_of(model: str) -> Any:
    (finished,) = finish(model)
    return json.loads(make_trace_file(make_past_run(finished, 1000.0)))


def of(kind: str, events: list[Json], **more: object) -> list[Json]:
    return [event for event in events if event["ph"] == kind and all(event.get(k) == v for k, v in more.items())]


def threads(events: list[Json]) -> dict[str, int]:
    return {event["args"]["name"]: event["tid"] for event in of("M", events, name="thread_name")}


def check(trace: Any) -> None:
    """The rules of the format, as its description has them, and those of Perfetto's importer."""
    assert {*trace} == {"traceEvents", "displayTimeUnit", "otherData"} and trace["displayTimeUnit"] in ("ms", "ns")
    by_track: dict[int, list[Json]] = defaultdict(list)
    for event in trace["traceEvents"]:
        assert event["ph"] in "MXiCsf" and event["pid"] == 1 and isinstance(event["tid"], int) and event["name"]
        if event["ph"] == "M":
            continue
        assert isinstance(event["ts"], int) and event["ts"] >= 0
        by_track[event["tid"]].append(event)
        match event["ph"]:
            case "X":
                assert event["dur"] >= 0
            case "i":
                assert event["s"] == "t"
            case "C":
                assert all(isinstance(value, int) for value in event["args"].values())
    for events in by_track.values():
        slices = sorted(of("X", events), key=lambda event: (event["ts"], -event["dur"]))
        for one, other in pairwise(slices):  # a track's slices nest or follow each other: ours follow
            assert one["ts"] + one["dur"] <= other["ts"]
    starts, ends = ({event["id"]: event for event in of(kind, trace["traceEvents"])} for kind in "sf")
    assert starts.keys() == ends.keys()
    for number, start in starts.items():
        end = ends[number]
        assert start["ts"] <= end["ts"] and start["tid"] != end["tid"] and end["bp"] == "e"
        for at in (start, end):  # an arrow that is in no slice is dropped
            assert any(one["ts"] <= at["ts"] <= one["ts"] + one["dur"] for one in of("X", by_track[at["tid"]])), at


@pytest.mark.parametrize("model", ["mix", "failing", "broken"])
def test_trace_is_one_that_loads(model: str) -> None:
    check(trace_of(model))


@pytest.mark.one_by_one
def test_each_agent_has_a_track_with_its_steps_and_the_answer_is_the_first() -> None:
    trace = trace_of("mix")
    events = trace["traceEvents"]
    tracks = threads(events)
    answer = next(iter(tracks))
    assert sorted(tracks.values()) == [1, 2, 3] and tracks[answer] == 1
    steps = of("X", events, tid=1)
    assert [step["name"] for step in steps] == ["first step", "update 1"]
    assert "".join(step["args"]["text"] for step in steps) == "Blue light scatters most."
    assert steps[-1]["args"]["usage"]["completion_tokens"] > 0
    (first,) = of("i", events, tid=1, name="first token")
    assert steps[0]["ts"] < first["ts"] <= steps[0]["ts"] + steps[0]["dur"]
    assert len(of("i", events, name="update 1")) == 1


def test_arrows_lead_from_what_was_read_to_the_step_that_read_it() -> None:
    events = trace_of("mix")["traceEvents"]
    steps = of("X", events, tid=1)
    arrows = of("f", events)
    assert {event["tid"] for event in of("s", events)} == {2, 3} and {event["tid"] for event in arrows} == {1}
    assert {event["ts"] for event in arrows} == {step["ts"] for step in steps}


@pytest.mark.one_by_one
def test_tokens_are_counted_for_every_agent() -> None:
    events = trace_of("mix")["traceEvents"]
    counts = of("C", events)
    assert all(one["ts"] <= other["ts"] for one, other in pairwise(counts))
    assert sum(counts[-1]["args"].values()) == 12 and list(counts[-1]["args"]) == list(threads(events))


LOAD = """async events => {
    const { Handlers, TraceModel } = await import("./models/trace/trace.js");
    const model = TraceModel.Model.createWithAllHandlers();
    await model.parse(events, { isCPUProfile: false, isFreshRecording: false });
    const { data } = model.parsedTrace(0);
    const tracks = Handlers.Threads.threadsInTrace(data);
    return tracks.map(({ name, entries }) => [name, entries.map(({ name, ts, dur }) => [name, ts, dur])]);
}"""
"""Runs in the window of Chromium's developer tools: what their performance panel does with a file that is loaded."""


@pytest.mark.slow
def test_performance_panel_of_chromium_loads_it() -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="traces are loaded with playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium is installed")
    events = trace_of("mix")["traceEvents"]
    with (
        playwright.sync_playwright() as running,
        closing(running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])) as browser,
    ):
        page = browser.new_page()
        page.goto("devtools://devtools/bundled/devtools_app.html?panel=timeline")
        loaded = {name: slices for name, slices in page.evaluate(LOAD, events)}
    assert loaded == {
        name: [[step["name"], step["ts"], step["dur"]] for step in of("X", events, tid=tid)]
        for name, tid in threads(events).items()
    }
