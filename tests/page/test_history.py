"""Past runs that the server keeps, on the page."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.page.looking import Look
from tests.page.serving import HERE, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which it is kept."""
    return tmp_path_factory.mktemp("keeping") / "server.db"


@pytest.fixture(scope="module")
def keeping(database: Path) -> Iterator[str]:
    """A server that keeps history."""
    config = database.with_name("pipelines.yaml")
    server = f"server: {{history: true, database: '{database}'}}\n"
    config.write_text((HERE / "pipelines.yaml").read_text() + server)
    with served(config) as url:
        yield url


def test_past_run_is_opened_saved_and_deleted_in_another_tab(look: Look, keeping: str) -> None:
    first = look(keeping)
    first.ask("mixture", "Why is the sky <b>blue</b>?")
    first.ask("breaks", "Why?")
    facts = first.page.locator("#history .facts").all_inner_texts()
    assert all(re.match(r"\d+:\d\d", one) for one in facts)  # when it was asked
    assert "breaks\xa0· balanced" in facts[0] and "mixture\xa0· balanced" in facts[1]
    assert first.text("#history li:last-child .begun").startswith("The sky is blue because air scatters")
    assert not first.page.locator("#past").is_visible()  # these are in the tab's own list

    second = look(keeping)
    second.page.wait_for_selector("#past li")
    assert [one.inner_text() for one in second.page.locator("#past .asked").all()] == [
        "Why?",
        "Why is the sky <b>blue</b>?",
    ]
    assert "broke\xa0off" in second.text("#past li .facts") and not second.page.locator("#history").is_visible()
    second.page.locator("#past li > button").last.click()
    second.wait_until("document.querySelector('.answer .prose')?.textContent.length > 50")
    second.page.wait_for_timeout(300)
    assert second.answer == first.answer or second.answer.endswith("as scattered light must.")
    assert "The first token came after" in second.why
    assert second.text("h2.asked") == "Why is the sky <b>blue</b>?"
    second.page.locator(".answer .block").first.click(position={"x": 30, "y": 10})
    second.wait_until("CSS.highlights.has('fresh')")
    assert len(second.marked("fresh")) == 3

    chosen = second.page.locator("#past li", has=second.page.locator("[aria-current=true]"))
    for name, ending in (("Trace", ".trace.json"), ("Events", ".jsonl")):
        with second.page.expect_download() as saving:
            chosen.get_by_text(name, exact=True).click()
        assert saving.value.suggested_filename.endswith(ending)
    chosen.get_by_text("Delete", exact=True).click()
    second.page.keyboard.press("Enter")  # the dialog's first button: Cancel
    second.page.wait_for_selector("#sure", state="hidden")
    assert second.page.locator("#past li").count() == 2
    chosen.get_by_text("Delete", exact=True).click()
    second.page.locator("#sure").get_by_text("Delete", exact=True).click()
    second.wait_until("document.querySelectorAll('#past li').length === 1")

    third = look(keeping, width=390)
    third.page.wait_for_selector("#past li")
    assert third.page.locator("#past li").count() == 1
    assert third.run("document.documentElement.scrollWidth <= innerWidth")


def test_past_run_is_asked_again_with_its_policy_and_without_a_mouse(look: Look, keeping: str) -> None:
    first = look(keeping)
    first.page.wait_for_selector("#send:enabled")
    first.page.select_option("#policy", "wait")
    first.ask("mixture", "Why is it <i>blue</i>?")

    second = look(keeping)
    second.page.wait_for_selector("#past li")
    second.page.locator("#past li > button").first.focus()
    second.page.keyboard.press("Enter")
    second.wait_until("document.querySelector('.answer .prose')?.textContent.length > 50")
    second.page.keyboard.press("Tab")
    assert second.run("document.activeElement.textContent") == "Ask again"
    second.page.keyboard.press("Enter")
    second.page.wait_for_selector("#history li")
    second.wait_over()
    assert second.text("h2.asked") == "Why is it <i>blue</i>?"
    assert "mixture\xa0· wait" in second.text("#history .facts")
    assert "had waited until 3 agents had ended" in second.why
    assert second.run("document.activeElement.id") == "question"

    second.page.get_by_text("See it beside wait and the single model").click()
    second.wait_over()
    assert second.page.locator(".answers article").count() == 2
    assert not second.page.locator("#notice .notice").is_visible()

    third = look(keeping)
    mine = third.page.locator("#past li", has_text="Why is it <i>blue</i>?")
    mine.first.wait_for()
    assert "side\xa0by\xa0side" in mine.first.locator(".facts").inner_text()  # the single model joins the earlier wait


def test_runs_side_by_side_are_one_entry_and_are_opened_and_deleted_together(look: Look, keeping: str) -> None:
    first = look(keeping)
    first.ask("mixture", "Why, side by side?", beside=True)
    assert first.page.locator("#history li").count() == 1

    second = look(keeping)
    mine = second.page.locator("#past li", has_text="Why, side by side?")
    mine.first.wait_for()
    assert mine.count() == 1 and "side\xa0by\xa0side" in mine.locator(".facts").inner_text()
    mine.locator("button").first.click()
    second.wait_until("document.querySelectorAll('.strip').length === 3")
    second.page.wait_for_timeout(400)
    titles = second.page.locator(".strip .title").all_inner_texts()
    assert titles == ["Staircase (balanced)", "Wait for all", "Single model"]
    assert "side by side" in second.why and second.page.locator(".upstream:visible").count() == 3
    second.page.get_by_role("button", name="Single model", exact=True).click()
    second.page.wait_for_timeout(200)
    assert second.page.locator(".upstream:visible").count() == 0
    with second.page.expect_download() as saving:
        mine.get_by_text("Events", exact=True).click()
    assert (
        len({json.loads(line)["agent"] for line in saving.value.path().read_text().splitlines() if '"agent"' in line})
        == 1
    )

    mine.get_by_text("Delete", exact=True).click()
    assert second.text("#sure-title") == "Delete these 3 runs?"
    second.page.locator("#sure").get_by_text("Delete", exact=True).click()
    second.wait_until(
        "![...document.querySelectorAll('#past .asked')].some((one) => one.textContent.includes('side by side'))"
    )
    assert "side by side?" not in look(keeping).text("body")


def test_all_are_deleted_only_after_asking(look: Look, keeping: str) -> None:
    sight = look(keeping)
    sight.ask("single", "One to keep?")
    sight = look(keeping)
    sight.page.get_by_role("button", name="Delete all").click()
    assert "whoever asked them" in sight.text("#sure-more")
    sight.page.keyboard.press("Escape")
    assert look(keeping).page.locator("#past li").first.inner_text().startswith("One to keep?")
    sight.page.get_by_role("button", name="Delete all").click()
    sight.page.locator("#sure").get_by_text("Delete", exact=True).click()
    sight.page.wait_for_selector("#past", state="hidden")
    assert sight.run("document.activeElement.id") == "question"
    again = look(keeping)
    again.page.wait_for_selector("#send:enabled")
    again.page.wait_for_timeout(300)
    assert not again.page.locator("#past").is_visible()


def test_list_says_that_the_newest_are_missing_while_the_database_is_locked(
    look: Look, keeping: str, database: Path
) -> None:
    first = look(keeping)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        first.ask("mixture", "Is it locked?")
        second = look(keeping)
        second.page.get_by_text("The newest runs may be missing").wait_for()  # SQLite waits five seconds for a lock
        assert "Is it locked?" not in second.text("#past")
        other.execute("ROLLBACK")
    second.page.wait_for_timeout(4_000)  # it is tried again every two seconds
    third = look(keeping)
    third.page.get_by_text("Is it locked?").wait_for()
    assert not third.page.get_by_text("The newest runs may be missing").is_visible()


def test_server_that_keeps_nothing_is_not_asked(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.page.wait_for_selector("#send:enabled")
    sight.page.wait_for_timeout(200)
    assert not sight.page.locator("#past").is_visible()
