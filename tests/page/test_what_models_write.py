"""Nothing that a model writes breaks the page, or becomes part of it."""

from typing import Any

import pytest
import yaml

from tests.page.looking import Look
from tests.page.serving import HERE

pytestmark = pytest.mark.slow

MODELS: dict[str, Any] = yaml.safe_load((HERE / "stress.yaml").read_text())["models"]


def test_markup_stays_text(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.ask("script")
    assert "<script>alert(1)</script> <img src=x onerror=alert(2)>" in sight.answer
    assert "[link](javascript:alert(3))" in sight.answer
    assert sight.page.locator(".round :is(script, img, a, iframe)").count() == 0


def test_a_question_stays_text_too(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.ask("rtl", "<img src=x onerror=alert(4)>")
    assert sight.text(".round > .asked") == "<img src=x onerror=alert(4)>"
    assert sight.page.locator(".columns img").count() == 0


def test_ten_thousand_characters_without_a_space_fit_a_phone(look: Look, stress: str) -> None:
    sight = look(stress, width=390, height=844)
    sight.ask("wide")
    assert len(sight.answer) >= 10_000
    assert sight.run("document.documentElement.scrollWidth") <= 390
    assert sight.run("[...document.querySelectorAll('.scroller')].every((one) => one.scrollWidth <= one.clientWidth)")


def test_text_runs_from_right_to_left_where_its_script_does(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.ask("rtl")
    directions = sight.run(
        "[...document.querySelectorAll('.answer .block')].map((one) => getComputedStyle(one).direction)"
    )
    assert directions == ["rtl", "ltr"]


def test_broken_markdown_loses_no_word(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.ask("broken")
    assert "**never closed *nor this `or that" in sight.answer
    assert sight.text(".answer pre code") == "print('**not bold**')\n\n- in the code still"


def test_places_are_right_behind_characters_of_two_units(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.ask("emoji")
    text = MODELS["emoji"]["text"]
    assert sight.answer == text
    sight.page.locator(".answer .block").click(position={"x": 30, "y": 10})
    sight.wait_until("CSS.highlights.has('fresh')")
    fresh = sight.marked("fresh")
    assert len(fresh) == 2
    for marked in fresh:
        assert text.startswith(marked) and marked[-1] == "r"  # eight words: "... four"
