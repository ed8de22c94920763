"""What goes wrong, and what the person is told of it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.killable import killable
from tests.page.looking import Look
from tests.page.serving import HERE, Cuttable, served

pytestmark = pytest.mark.slow

REFUSED = "the server responded with a status of 4"


def write_config(folder: Path, **server: object) -> Path:
    """The pipelines with settings of the server's."""
    settings = yaml.safe_load((HERE / "pipelines.yaml").read_text())
    file = folder / "served.yaml"
    file.write_text(yaml.safe_dump({**settings, "server": server}))
    return file


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server that wants a key, and a key that may start two runs a minute."""
    config = write_config(tmp_path, database=str(tmp_path / "server.db"))
    command = [sys.executable, "-m", "stairstream", "keys", "create", "ann", "-c", str(config)]
    made = subprocess.run([*command, "--requests-per-minute", "2"], capture_output=True, text=True, check=True)
    found = re.search(r"\bsk-\S+|\bss[-_]\S+", made.stdout)
    assert found, made.stdout
    with served(config) as url:
        yield url, found[0]


def test_a_key_is_asked_for_where_the_server_wants_one_and_kept_in_memory_only(
    look: Look, keyed: tuple[str, str]
) -> None:
    url, key = keyed
    sight = look(url, expects=REFUSED)
    assert "stairstream keys create NAME" in sight.text("#key")  # where one comes from
    sight.page.fill("#key-input", "not a key")
    sight.page.keyboard.press("Enter")
    sight.wait_until("document.getElementById('key-problem').textContent !== ''")
    sight.page.fill("#key-input", key)
    sight.page.keyboard.press("Enter")
    sight.ask("single")
    assert len(sight.answer) > 1000
    assert sight.run("[localStorage.length, sessionStorage.length, document.cookie.length]") == [0, 0, 0]
    assert sight.run("document.getElementById('key-input').value") == ""
    assert key not in sight.page.content()


def test_a_limit_is_said_with_when_to_try_again(look: Look, keyed: tuple[str, str]) -> None:
    url, key = keyed
    sight = look(url, expects=REFUSED)
    sight.page.fill("#key-input", key)
    sight.page.keyboard.press("Enter")
    sight.ask("mixture", beside=True)
    told = sight.text(".problems .notice")
    assert "Single model:" in told and "Try again in" in told
    assert len(sight.answer) > 1000  # the others are there


def test_no_key_is_no_riddle(look: Look, keyed: tuple[str, str]) -> None:
    sight = look(keyed[0], expects=REFUSED)
    sight.page.click("#key-cancel")
    sight.page.wait_for_selector("#notice .notice")
    assert "key" in sight.text("#notice .notice")
    sight.page.get_by_role("button", name="Try again").click()
    sight.page.wait_for_selector("#key-input:visible")


def test_what_a_broken_run_had_said_stays(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("breaks")
    assert sight.answer.startswith("w1 w2") or len(sight.answer.split()) >= 12
    told = sight.text(".problems .notice")
    assert re.fullmatch(
        r"The answering agent, nil, broke off after \d+ tokens: nil: [^.]+ tokens\. What had been said stays\.", told
    )
    assert "broke off" in sight.text(".answer .state")
    assert sight.page.locator(".answer > .problem").inner_text() == ""  # it is told once
    assert sight.page.locator("table tfoot").count() == 1


def test_an_answering_agent_that_says_nothing_has_a_sentence_and_is_not_left_out(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("dead")
    assert sight.why == "There is no answer."
    assert sight.text(".problems .notice").startswith("The answering agent, out, failed before its first token: out: ")
    assert sight.text(".answer .state") == "failed before its first token"
    assert "left out" not in sight.text(".round")
    assert sight.page.locator(".answer-lane .broken").get_attribute("d")


def test_what_an_answer_had_to_do_without_is_no_failure(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("shaky")
    told = sight.text(".problems .notice.mild")
    assert "nil broke off after" in told and "out was dropped" in told
    assert not re.search(r"[.;:,]{2}|\w\. \w.*[^.]$", told)
    assert sight.page.locator(".upstream .state", has_text="failed, and was left out").count() == 1


def test_a_run_that_is_stopped_did_not_break_off(look: Look, pipelines: str) -> None:
    sight = look(pipelines)
    sight.ask("mixture", waits=False)
    sight.wait_until("document.querySelectorAll('.panel').length === 4")
    sight.page.click("#stop")
    sight.wait_over()
    states = sight.page.locator(".panel .state").all_inner_texts()
    assert len(states) == 4 and all(state.startswith("stopped") for state in states)
    assert sight.why == "It was stopped before its first token."


def test_a_lost_connection_is_taken_up_where_it_was(look: Look, pipelines: str) -> None:
    with Cuttable(pipelines).running() as relay:
        sight = look(relay.url, expects="net::ERR_")
        sight.ask("mixture", waits=False)
        sight.wait_until("document.querySelector('.answer .prose')?.textContent.length > 200")
        relay.is_open = False
        relay.cut()
        sight.wait_until("document.querySelector('.headline').textContent.includes('connection lost')")
        relay.is_open = True
        sight.wait_over()
        again = look(pipelines)
        again.ask("mixture")
        assert sight.answer == again.answer
        assert sight.page.locator(".problems .notice").count() == 0


def write_killable(folder: Path, *, durable: bool) -> Path:
    settings = yaml.safe_load((HERE / "pipelines.yaml").read_text())
    settings["pipelines"]["mixture"]["durable"] = durable
    file = folder / "killable.yaml"
    file.write_text(yaml.safe_dump({**settings, "server": {"database": str(folder / "s.db"), "drain_s": 0}}))
    return file


def test_a_durable_run_survives_its_server(look: Look, tmp_path: Path) -> None:
    with killable(write_killable(tmp_path, durable=True), 1) as (server,):
        sight = look(server.url, expects="net::ERR_")
        sight.ask("mixture", waits=False)
        sight.wait_until("document.querySelector('.answer .prose')?.textContent.length > 200")
        server.kill()
        server.start()
        sight.wait_over()
        answer = sight.answer
        assert sight.page.locator(".problems .notice").count() == 0
        sight.ask("mixture")
        assert answer == sight.answer


def test_a_run_that_is_lost_with_its_server_is_said_in_one_line(look: Look, tmp_path: Path) -> None:
    with killable(write_killable(tmp_path, durable=False), 1) as (server,):
        sight = look(server.url, expects=" ")
        sight.ask("mixture", waits=False)
        sight.wait_until("document.querySelector('.answer .prose')?.textContent.length > 200")
        server.kill()
        server.start()
        sight.wait_over()
        assert sight.page.locator(".problems .notice").count() == 1
        assert "only runs of durable pipelines survive that" in sight.text(".problems .notice")
        assert len(sight.answer) > 200


def test_a_server_that_does_not_come_back_is_said_with_the_time(look: Look, pipelines: str) -> None:
    with Cuttable(pipelines).running() as relay:
        sight = look(relay.url, expects="net::ERR_")
        sight.page.wait_for_selector("#send:enabled")
        sight.page.clock.install()
        sight.ask("mixture", waits=False)
        has_begun = "document.querySelector('.answer .prose')?.textContent.length > 0"
        for _ in range(200):
            sight.page.clock.run_for(100)
            if sight.run(has_begun):
                break
        relay.is_open = False
        relay.cut()
        for _ in range(300):
            sight.page.clock.run_for(5_000)
            if sight.page.locator(".problems .notice").count():
                break
        assert "did not come back within 10 minutes" in sight.text(".problems .notice")


def test_a_server_that_is_gone_is_said(look: Look, pipelines: str) -> None:
    with Cuttable(pipelines).running() as relay:
        sight = look(relay.url, expects="net::ERR_")
        sight.page.wait_for_selector("#send:enabled")
        relay.is_open = False
        relay.cut()
        sight.page.wait_for_timeout(100)
        sight.ask("single")
        assert "can't be reached" in sight.text(".problems .notice")
