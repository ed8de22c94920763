"""Any text of a model costs the page time in proportion to its length: in the browser, and quicker in Node.js."""

import json
import shutil
import subprocess

import pytest

from stairstream.server import page
from tests.page.looking import Look

pytestmark = pytest.mark.slow

FOLDER = page.__file__.removesuffix(".py")
TEXTS = (
    *("*a ", "**a ", "_a ", "__a ", "`a ", "``a ", "*a **b ", "**a _b ", "_a *b **c __d `e ", "*a*", "**a*", "*a**"),
    *("*", "_", "`", "\\", "a_", "***a ", "**a** ", "*a `", "a", "#", "|", "- - ", "> ", "```\n", "---\n", "\n", "😀"),
)
LINES = ("```a", "``` ", "~~~a", "- - ", "- ", "#", "> ", "1", " ")
"""What a line begins with that goes on and on and ends in a backtick: a fence that is none."""
MEASURE = """
const measure = ({ blocksOf, runsOf }, unit, size) => {
  const text = unit.repeat(Math.ceil(size / unit.length));
  const once = () => {
    const start = performance.now();
    let runs = runsOf(text, 0, text.length).length;
    for (const block of blocksOf(text, 0)) runs += runsOf(text, block.from, block.to).length;
    return performance.now() - start;
  };
  return Math.min(once(), once(), once());
};
"""
UNITS = (*TEXTS, *(f"{line * 700}`\n" for line in LINES))


def check(times: list[list[float]]) -> None:
    """Four times the text: 16 times the time where it is quadratic, and far more than that in all."""
    for unit, (short_ms, long_ms) in zip(UNITS, times, strict=True):
        assert long_ms < 10 * short_ms + 20, (unit[:20], short_ms, long_ms)


TIMES = f"{json.dumps(UNITS)}.map((unit) => [8000, 32000].map((size) => measure(all, unit, size)))"


def test_markdown_is_linear_in_node() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    code = f"import * as all from 'file://{FOLDER}/markdown.js'; {MEASURE} console.log(JSON.stringify({TIMES}));"
    command = [node, "--experimental-default-type=module", "--input-type=module", "-e", code]
    check(json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout))


def test_markdown_is_linear_in_the_browser(look: Look, pipelines: str) -> None:
    check(look(pipelines).run(f"import('/page/markdown.js').then((all) => {{ {MEASURE} return {TIMES}; }})"))


def test_an_answer_of_stars_is_drawn_as_fast_as_any(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    took_ms = sight.run(
        "import('/page/prose.js').then(({ Prose }) => { const times = ['*a ', 'ab '].map((unit) => {"
        " const text = unit.repeat(210000); const prose = new Prose(document.createElement('div'));"
        " const start = performance.now(); prose.update(text); return performance.now() - start; }); return times; })"
    )
    assert took_ms[0] < 20 * took_ms[1] + 100
