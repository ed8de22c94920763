"""How the page looks: what reaches which width, paper, and a person who looks for the rest of a text."""

import pytest

from tests.page.looking import Look, Sight

pytestmark = pytest.mark.slow

# every rule of a sheet, those in media queries too
RULES = (
    "(() => { const sheet = [...document.styleSheets].find((one) => one.href.endsWith('/round.css'));"
    " const found = []; const walk = (rules) => { for (const rule of rules) { if (rule.selectorText)"
    " found.push(rule.selectorText); if (rule.cssRules) walk(rule.cssRules); } };"
    " walk(sheet.cssRules); return found; })()"
)


def top(sight: Sight, selector: str) -> float:
    return float(sight.run(f"document.querySelector('{selector}').getBoundingClientRect().top"))


def test_no_rule_of_a_round_reaches_the_landing_page(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    rules = sight.run(RULES)
    assert len(rules) > 80
    reached = [rule for rule in rules if "::" not in rule and sight.page.locator("body").locator(rule).count()]
    assert reached == []
    strokes = sight.run("[...document.querySelectorAll('.intro text')].map((one) => getComputedStyle(one).stroke)")
    assert len(strokes) == 6 and set(strokes) == {"none"}


def test_the_tagline_stands_on_the_line_of_the_name(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    # an empty inline block stands on the baseline
    baselines = sight.run(
        "['.brand span', '.tagline'].map((selector) => { const mark = document.createElement('i');"
        " mark.className = 'ruler'; const sheet = new CSSStyleSheet();"
        " sheet.replaceSync('.ruler { display: inline-block }');"
        " document.adoptedStyleSheets = [sheet]; document.querySelector(selector).prepend(mark);"
        " const { bottom } = mark.getBoundingClientRect(); mark.remove(); return bottom; })"
    )
    assert abs(baselines[0] - baselines[1]) < 1


@pytest.mark.parametrize(("width", "is_phone"), [(390, True), (640, True), (820, False), (1280, False)])
def test_the_answer_comes_before_the_picture_on_a_phone(look: Look, pipelines: str, width: int, is_phone: bool) -> None:
    sight = look(pipelines, width=width, height=844)
    sight.ask("single")
    assert (top(sight, ".answers") < top(sight, ".picture")) == is_phone
    sight.page.set_viewport_size({"width": 1280 if is_phone else 390, "height": 844})  # turned, or zoomed
    sight.page.wait_for_timeout(300)
    assert (top(sight, ".answers") < top(sight, ".picture")) == (not is_phone)


@pytest.mark.parametrize("width", [390, 1280])
def test_long_answers_side_by_side_fade_and_unfold(look: Look, pipelines: str, width: int) -> None:
    sight = look(pipelines, width=width, height=600)
    sight.ask("mixture", "Why? " * 200, beside=True)
    answers = sight.page.locator(".answer")
    assert answers.count() == 3
    for answer in answers.all():
        scroller = answer.locator(".scroller")
        assert "more-" in (scroller.get_attribute("class") or "")
        assert "linear-gradient" in scroller.evaluate("(one) => getComputedStyle(one).maskImage")
        answer.get_by_role("button", name="Unfold what dan says").click()
        assert scroller.evaluate("(one) => one.scrollHeight - one.clientHeight") <= 1
        assert scroller.evaluate("(one) => getComputedStyle(one).maskImage") == "none"
        fold = answer.get_by_role("button", name="Fold what dan says", exact=True)
        assert fold.get_attribute("aria-expanded") == "true"
        fold.click()
        assert scroller.evaluate("(one) => one.scrollHeight > one.clientHeight")
    question = sight.page.get_by_role("button", name="Unfold the question")
    question.click()
    assert (
        sight.run(
            "(({scrollHeight, clientHeight}) => scrollHeight - clientHeight)(document.querySelector('.round > .asked'))"
        )
        <= 1
    )


def test_short_texts_have_nothing_to_unfold(look: Look, stress: str) -> None:
    sight = look(stress)
    sight.ask("rtl")
    assert sight.page.locator(".fold:visible").count() == 0


def test_a_text_that_grows_is_followed_until_a_person_scrolls_up(look: Look, stress: str) -> None:
    sight = look(stress, height=500)
    sight.ask("fast", waits=False)
    sight.wait_until("document.querySelector('.answer .prose')?.textContent.length > 5000")
    rest = (
        "(({scrollTop, clientHeight, scrollHeight}) => scrollHeight - clientHeight - scrollTop)"
        "(document.querySelector('.answer .scroller'))"
    )
    assert sight.run(rest) < 60
    sight.page.locator(".answer .scroller").hover()
    sight.page.mouse.wheel(0, -400)
    sight.wait_over()
    assert sight.run(rest) > 300


@pytest.mark.parametrize(("width", "is_wider"), [(390, True), (1280, False)])
def test_a_table_says_that_it_scrolls(look: Look, pipelines: str, width: int, is_wider: bool) -> None:
    sight = look(pipelines, width=width)
    sight.ask("single")
    assert ("scroll sideways" in sight.text(".numbers h3")) == is_wider


def test_paper_has_every_word_and_no_button(look: Look, pipelines: str) -> None:
    sight = look(pipelines, width=820, color_scheme="dark")
    sight.ask("mixture", beside=True)
    sight.page.emulate_media(media="print", color_scheme="dark")
    sight.page.wait_for_timeout(100)
    for scroller in sight.page.locator(".scroller:visible").all():
        assert scroller.evaluate("(one) => one.scrollHeight - one.clientHeight") <= 1
    assert sight.page.locator(".answer:visible").count() == 3
    assert sight.page.locator(":is(form, .fold, .history, .reading):visible").count() == 0
    assert sight.page.locator(".strip .title:visible").count() == 3
    assert sight.run("getComputedStyle(document.body).color") == "rgb(28, 29, 33)"  # dark on paper


def test_a_captured_whole_page_has_the_texts_below_its_window(look: Look, pipelines: str) -> None:
    sight = look(pipelines, width=820, height=400)
    sight.ask("mixture")
    below = sight.page.locator(".upstream .block").all()
    assert len(below) > 9 and all(
        block.evaluate("(one) => one.checkVisibility({ contentVisibilityAuto: true })") for block in below
    )


def test_an_example_leaves_a_draft_alone(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.page.wait_for_selector("#send:enabled")
    sight.page.fill("#question", "a draft")
    sight.page.locator("#examples button").first.click()
    sight.page.wait_for_selector(".round")
    assert sight.page.input_value("#question") == "a draft"
    assert sight.text(".round > .asked") == "Why is the sky blue?"
    sight.page.click("#stop")
