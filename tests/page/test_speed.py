"""How fast the page is there, and that it keeps up; what the page's thread computes is timed, not what it waits for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.page.looking import Look, Sight

pytestmark = pytest.mark.slow

LONGEST_TASK_S = 0.05
FIRST_PAINT_S = 0.2


def first_paint_s(look: Look, url: str) -> float:
    sight = look(url, expects="404 (Not Found)")  # a bare answer has no icon
    sight.wait_until("performance.getEntriesByName('first-contentful-paint').length === 1")
    return float(sight.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")) / 1000


def test_the_page_is_painted_within_200_ms(look: Look, pipelines: str) -> None:
    best_s = min(iter_until(FIRST_PAINT_S, (first_paint_s(look, pipelines) for _ in range(10))))
    if best_s >= FIRST_PAINT_S:  # a busy machine: then what it makes of one word is the measure
        bare_s = min(first_paint_s(look, f"{pipelines}/healthz") for _ in range(10))
        assert best_s < 4 * bare_s


def iter_until(enough: float, values: Iterator[float]) -> Iterator[float]:
    """The values up to the first that is small enough: what a busy machine adds is not the page's."""
    for value in values:
        yield value
        if value < enough:
            return


@contextmanager
def watching_tasks(sight: Sight) -> Iterator[list[float]]:
    """What the page's main thread computed in one go, each in seconds, longest first; there behind the block."""
    session = sight.page.context.new_cdp_session(sight.page)
    events: list[Any] = []
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    ended: list[object] = []
    session.on("Tracing.tracingComplete", lambda data: ended.append(data))
    session.send("Tracing.start", {"traceConfig": {"includedCategories": ["toplevel", "devtools.timeline"]}})
    found: list[float] = []
    yield found
    session.send("Tracing.end")
    while not ended:
        sight.page.wait_for_timeout(20)
    main = {one["tid"] for one in events if one["name"] == "FireAnimationFrame"}
    tasks = [one for one in events if one["name"].endswith("RunTask") and one["tid"] in main and one["ph"] == "X"]
    found += sorted((one["tdur"] / 1e6 for one in tasks if "tdur" in one), reverse=True)


def test_four_lanes_at_100_tokens_a_second_make_no_long_task(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.page.wait_for_selector("#send:enabled")
    with watching_tasks(sight) as tasks:
        sight.ask("fast")
    assert len(tasks) > 200
    assert tasks[0] < LONGEST_TASK_S, json.dumps(tasks[:5])


def test_an_answer_of_20000_tokens_stays_scrollable(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.page.wait_for_selector("#send:enabled")
    with watching_tasks(sight) as tasks:
        sight.ask("long")
        sight.page.locator(".answer .scroller").hover()
        for _ in range(60):
            sight.page.mouse.wheel(0, -600)
            sight.page.wait_for_timeout(16)
    assert sight.answer.split()[-1] == "long_20000"
    assert sight.run("document.querySelector('.answer .block').getBoundingClientRect().height") > 20
    assert tasks[0] < LONGEST_TASK_S, json.dumps(tasks[:5])
