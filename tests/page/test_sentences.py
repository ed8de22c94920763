"""What the page's modules say and draw of a run, without a browser."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from stairstream.server import page

FOLDER = page.__file__.removesuffix(".py")
NAMES = ("format", "drawing", "saying", "run")


def run(expression: str) -> Any:
    """The value of an expression over the modules' names."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    imports = "".join(f"import * as {name} from 'file://{FOLDER}/{name}.js';" for name in NAMES)
    merged = ", ".join(f"...{name}" for name in NAMES)
    code = f"{imports} const all = {{{merged}}}; console.log(JSON.stringify({expression}));"
    command = [node, "--experimental-default-type=module", "--input-type=module", "-e", code]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def problems(
    *, reason: str, error: str | None = None, degraded: tuple[str, ...] = (), answer: str = "stop"
) -> list[Any]:
    """What is said of a run whose answering agent, dan, ended so."""
    events = [
        {"type": "run_started", "at_s": 0, "run_id": "r", "agents": ["dan"], "answer": "dan"},
        {"type": "agent_ended", "agent": "dan", "at_s": 1, "reason": answer, "error": error},
        {"type": "run_ended", "at_s": 1, "reason": reason, "degraded": list(degraded), "error": error},
    ]
    made = f"const one = new all.Run('staircase', 'S'); for (const event of {json.dumps(events)}) one.take(event);"
    found: list[Any] = run(f"(() => {{ {made} return all.sayProblems([one]); }})()")
    return found


@pytest.mark.parametrize("error", ["it fell", "it fell.", " it fell. "])
def test_error_ends_with_one_full_stop(error: str) -> None:
    [told] = problems(reason="failed", error=error, answer="dropped")
    assert told == {"text": "The answering agent, dan, failed before its first token: it fell.", "isMild": False}


def test_parts_of_a_list_bring_no_full_stops_along() -> None:
    [told] = problems(reason="stop", degraded=("a was dropped: no.", "b: full"))
    assert told == {"text": "The answer had to do without something: a was dropped: no; b: full.", "isMild": True}


def test_failure_that_is_not_the_answering_agents_is_not_told_as_its() -> None:
    [told] = problems(reason="shutdown", error="the server was shut down", answer="shutdown")
    assert told["text"] == "the server was shut down."


def test_run_without_a_reason_broke_off() -> None:
    [told] = problems(reason="failed", answer="stop")
    assert told["text"] == "The run broke off."


def test_slow_words_that_the_server_spread_are_one_bar_and_gaps_are_not() -> None:
    times = "[1, 1.15, 1.3, 1.45, 1.9, 2.05]"
    assert run(f"all.flows({times}, 0, [false, true, true, true, true, true])") == [[1, 1.45], [1.9, 2.05]]
    assert len(run(f"all.flows({times}, 0)")) == 6  # as they were written, each word stands alone


def test_run_notes_which_words_were_paced() -> None:
    wrote = {"type": "wrote", "agent": "dan", "start": 0, "end": 1, "text": "a", "num_tokens": 1}
    started = {"type": "run_started", "at_s": 0, "run_id": "r", "agents": ["dan"], "answer": "dan"}
    events = [started, {**wrote, "at_s": 1}, {**wrote, "start": 1, "end": 2, "at_s": 1.2, "written_s": 1.01}]
    made = f"const one = new all.Run('staircase', 'S'); for (const event of {json.dumps(events)}) one.take(event);"
    assert run(f"(() => {{ {made} return one.answer.paced; }})()") == [False, True]
