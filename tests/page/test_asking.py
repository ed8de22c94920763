"""A question, its staircase, and what there is to see of it."""

import re
from itertools import pairwise

import pytest

from tests.page.looking import Look, Sight

pytestmark = pytest.mark.slow


def first_tokens_s(sight: Sight) -> dict[str, float]:
    found = {}
    for strip in sight.page.locator(".strip").all():
        said = re.search(r"first token ([\d.]+) s", strip.locator(".headline").inner_text())
        assert said
        found[strip.locator(".title").inner_text().split(" ")[0]] = float(said[1])
    return found


def test_each_lane_fills_and_the_first_token_is_explained(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("mixture", "Why is the sky blue?", waits=False)
    sight.wait_until("document.querySelector('.answer .prose')?.textContent.length > 50")
    for panel in sight.page.locator(".upstream .prose").all():
        assert len(panel.text_content() or "") > 50  # they still write
    assert sight.page.locator("#stop").is_visible()
    sight.wait_over()
    assert sight.answer.endswith("as scattered light must.")
    [shown] = first_tokens_s(sight).values()
    said = re.search(
        r"The first token came after ([\d.]+) s, because the answering agent, dan, began when it had read", sight.why
    )
    later = re.search(r"there would have been no token before ([\d.]+) s", sight.why)
    assert said and later
    assert float(said[1]) == shown < 0.5 * float(later[1])
    assert sight.page.locator(".answer-lane .line").get_attribute("d")
    assert float(sight.text("table tfoot").split()[-1]) > 0  # what it cost


def test_words_show_what_had_been_read_when_they_were_written(look: Look, pipelines: str) -> None:
    sight = look(pipelines, height=2000)
    sight.ask("mixture", "Why is the sky blue?")
    sight.page.locator(".answer .block").first.click(position={"x": 30, "y": 10})
    sight.wait_until("CSS.highlights.has('fresh')")
    first = sight.marked("fresh")
    assert len(first) == 3 and all(20 < len(text) < 300 for text in first)
    assert "The first words, at" in sight.text(".caption")
    [words] = sight.marked("step")
    assert sight.answer.startswith(words[:30])
    sight.page.locator(".answer .block").last.click(position={"x": 30, "y": 10})
    sight.page.wait_for_timeout(200)
    assert "Update" in sight.text(".caption") and "all that ada, bea and cyd wrote" in sight.text(".caption")
    assert sight.marked("later") == []


def test_the_steps_can_be_walked_with_the_keyboard_alone(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.page.wait_for_selector("#send:enabled")
    keys = sight.page.keyboard
    keys.press("Tab")
    assert sight.run("document.activeElement.className") == "skip"
    keys.press("Enter")
    keys.type("Why?")
    keys.press("Enter")
    sight.wait_over()
    for _ in range(30):
        keys.press("Tab")
        if sight.run("document.activeElement.id") == "steps":
            break
    keys.press("Home")
    sight.page.wait_for_timeout(200)
    assert "The first words" in sight.run("document.activeElement.getAttribute('aria-valuetext')")
    keys.press("ArrowRight")
    sight.page.wait_for_timeout(200)
    assert "Update 1" in sight.text(".caption")
    keys.press("Escape")
    sight.page.wait_for_timeout(200)
    assert "Click any words" in sight.text(".caption") and sight.marked("step") == []


def test_three_runs_side_by_side_begin_at_once_and_differ_in_their_first_words(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("mixture", beside=True)
    first_s = first_tokens_s(sight)
    assert list(first_s) == ["Staircase", "Wait", "Single"]
    assert first_s["Single"] < first_s["Staircase"] < 0.5 * first_s["Wait"]
    assert "all asked at once" in sight.why
    answers = sight.page.locator(".answer .prose").all_text_contents()
    assert len(answers) == 3 and len(set(answers)) == 1
    sight.page.get_by_role("button", name="Wait for all").click()
    sight.page.wait_for_timeout(200)
    assert sight.page.locator(".upstream:visible").count() == 3
    sight.page.get_by_role("button", name="Single model").click()
    sight.page.wait_for_timeout(200)
    assert sight.page.locator(".upstream:visible").count() == 0


def test_the_others_can_be_asked_later(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("chain")
    sight.page.get_by_text("See it beside").click()
    sight.page.wait_for_selector("#stop")
    sight.wait_over()
    assert list(first_tokens_s(sight)) == ["Staircase", "Wait", "Single"]
    assert "later" in sight.text(".strip.wait .headline")


def test_earlier_rounds_can_be_opened_again(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("single", "The first question?")
    sight.ask("mixture", "The second question?")
    items = sight.page.locator("#history li")
    assert [text.split("\n")[0] for text in items.all_inner_texts()] == ["The second question?", "The first question?"]
    sight.page.get_by_role("button", name="The first question?").click()
    sight.page.wait_for_timeout(300)
    assert sight.text(".round > .asked") == "The first question?"
    assert sight.page.locator(".answer .prose").count() == 1 and len(sight.answer) > 1000
    assert "one model, which reads no other agent" in sight.why


def test_a_run_can_be_stopped_and_keeps_its_words(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("mixture", waits=False)
    sight.wait_until("document.querySelector('.answer .prose')?.textContent.length > 50")
    sight.page.click("#stop")
    sight.wait_over()
    assert 50 < len(sight.answer) < 1000
    assert sight.page.locator(".problems .notice").count() == 0


def test_a_screen_reader_hears_whole_sentences_and_not_too_often(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.run(
        "window.spoken = [], new MutationObserver((all) => all.forEach((one) => one.addedNodes.forEach((node) =>"
        " spoken.push([performance.now(), node.textContent])))).observe(document.getElementById('spoken'),"
        " {childList: true})"
    )
    sight.ask("mixture")
    sight.wait_until("spoken.at(-1)[1].includes('The answer has ended after')")
    spoken = sight.run("spoken")
    assert spoken[0][1].startswith("First token after")
    assert all(text.rstrip()[-1] in ".!?:" for _, text in spoken)
    apart_ms = [later - earlier for (earlier, _), (later, _) in pairwise(spoken)]
    assert min(apart_ms) > 2500
    assert "air scatters blue light far more than red." in spoken[1][1]


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1440, "dark")])
def test_it_fits_a_phone_and_a_desk(look: Look, pipelines: str, width: int, scheme: str) -> None:
    sight = look(pipelines, width=width, height=844, color_scheme=scheme, reduced_motion="reduce")
    sight.ask("mixture", beside=True)
    assert sight.run("document.documentElement.scrollWidth") <= width
    ground = sight.run("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(19, 20, 23)") == (scheme == "dark")
    assert sight.page.locator(".answer:visible").count() == 3
