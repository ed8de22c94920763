"""`stairstream ask --server`: a running server's answer, across lost connections and processes that are killed."""

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.request import urlopen

import pytest

from stairstream.cli import attaching
from stairstream.cli.attaching import Outage
from stairstream.cli.main import main
from stairstream.core.events import Wrote
from stairstream.sim.clock import run
from tests.cli.test_watch import EVENTS, LINES, RUN, Captured, error, serving, stream, whole, words
from tests.killable import Killable, killable

T = TypeVar("T")
ANSWER = "".join(words(event) for event in EVENTS if isinstance(event, Wrote) and event.agent == "agg")
MODELS = whole("200 OK", b'{"data": [{"id": "mix"}, {"id": "other"}]}')
ENDED = whole("200 OK", b'{"id": "%s", "stairstream": {"notes": ["a note"], "policy": "cheap"}}' % RUN.encode())
GONE = error("404 Not Found", "there is no run")


def begun(*, upto: int | None = None) -> bytes:
    """The answer to a question: its events, cut off after so many."""
    answer = stream(LINES[:upto], is_cut=upto is not None)
    return answer.replace(b"\r\n", b"\r\nx-stairstream-run: %s\r\n" % RUN.encode(), 1)


def body_of(head: str) -> dict[str, object]:
    found = json.loads(head.partition("\r\n\r\n")[2])
    assert isinstance(found, dict)
    return found


def test_answer_is_printed_and_numbers_are_told(capsys: Captured) -> None:
    with serving(begun(), ENDED) as (url, heads):
        assert main(["ask", "--server", f"{url}/v1", "-p", "mix", "--system", "Be brief.", "why?"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{ANSWER}\n"
    assert "first token" in printed.err and "policy cheap" in printed.err and "a note" in printed.err
    assert heads[0].startswith("POST /v1/runs ") and heads[1].startswith(f"GET /v1/runs/{RUN} ")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    assert body_of(heads[0]) == {"model": "mix", "messages": turns, "stairstream": {"keep_s": 60.0}}


def test_options_are_those_of_a_request_and_the_first_pipeline_is_asked(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAIRSTREAM_API_KEY", "sk-stair-secret")
    chosen = ["--policy", "cheap", "--set", "lead=inf", "--set", "first_chunk=4", "--pace", "raw", "-q", "--draw"]
    with serving(MODELS, begun(), ENDED) as (url, heads):
        assert main(["ask", "--server", url, *chosen, "why?"]) == 0
    asked = body_of(heads[1])
    assert (asked["model"], asked["stairstream"]) == (
        "mix",
        {"policy": "cheap", "lead": "inf", "first_chunk": 4, "pace": "raw", "keep_s": 60.0},
    )
    assert all("authorization: bearer sk-stair-secret\r\n" in head.lower() for head in heads)
    printed = capsys.readouterr()
    assert printed.out == f"{ANSWER}\n" and printed.err.startswith("agg ")


def test_lost_connection_is_nothing_but_a_pause(capsys: Captured) -> None:
    with serving(begun(upto=9), stream(LINES[9:], 9), ENDED) as (url, heads):
        assert main(["ask", "--server", url, "-p", "mix", "-q", "why?"]) == 0
    assert heads[1].startswith(f"GET /v1/runs/{RUN}/events ") and "last-event-id: 8\r\n" in heads[1].lower()
    assert capsys.readouterr() == (f"{ANSWER}\n", "")


def test_run_lost_before_its_first_event_is_found_by_its_header(capsys: Captured) -> None:
    with serving(begun(upto=0), stream(LINES), ENDED) as (url, heads):
        assert main(["ask", "--server", url, "-p", "mix", "-q", "why?"]) == 0
    assert "last-event-id" not in heads[1].lower()
    assert capsys.readouterr().out == f"{ANSWER}\n"


def name_of(head: str) -> str:
    found = re.search(r"idempotency-key: ([0-9a-f]{32})\r\n", head.lower())
    assert found is not None
    return found[1]


def test_question_whose_connection_is_lost_before_the_answer_begins_is_not_asked_twice(capsys: Captured) -> None:
    is_there = b"x-stairstream-run: %s\r\ncontent-length" % RUN.encode()
    asked_before = error("409 Conflict", "this request has a run").replace(b"content-length", is_there, 1)
    busy = error("503 Service Unavailable", "stopping")
    with serving(b"", busy, asked_before, stream(LINES), ENDED) as (url, heads):
        assert main(["ask", "--server", url, "-p", "mix", "-q", "why?"]) == 0
    assert [head.partition(" HTTP")[0] for head in heads[:4]] == [
        *["POST /v1/runs"] * 3,
        f"GET /v1/runs/{RUN}/events",
    ]
    assert len({name_of(head) for head in heads[:3]}) == 1
    assert capsys.readouterr() == (f"{ANSWER}\n", "")


def test_question_that_did_not_arrive_is_asked_again(capsys: Captured) -> None:
    with serving(b"", error("409 Conflict", "it begins at this moment"), begun(), ENDED) as (url, heads):
        assert main(["ask", "--server", url, "-p", "mix", "-q", "why?"]) == 0
    assert len({name_of(head) for head in heads[:3]}) == 1
    assert capsys.readouterr().out == f"{ANSWER}\n"


def test_question_is_not_asked_again_for_longer_than_its_run_is_kept(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "KEEP_S", 0.3)
    with serving(*[b""] * 9) as (url, heads):
        assert main(["ask", "--server", url, "-p", "mix", "-q", "why?"]) == 1
    assert 2 <= len(heads) < 6
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "asked again in vain" in said and "the connection was lost" in said


def test_long_outage_is_noted_once(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "NOTED_S", 0.0)
    busy = error("503 Service Unavailable", "stopping")
    with serving(begun(upto=9), busy, busy, stream(LINES[9:], 9), ENDED) as (url, _):
        assert main(["ask", "--server", url, "-p", "mix", "-q", "why?"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{ANSWER}\n"
    assert printed.err.count("\n") == 1 and "trying to come back for up to 10 minutes" in printed.err


def test_run_that_is_gone_is_one_line(capsys: Captured) -> None:
    with serving(begun(upto=9), GONE, GONE) as (url, _):
        assert main(["ask", "--server", url, "-p", "mix", "-q", "why?"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("stairstream: error: ") and printed.err.count("\n") == 1
    assert "the run is gone" in printed.err and "durable" in printed.err


@pytest.mark.parametrize("command", ["ask", "watch"])
def test_server_that_does_not_come_back_is_one_line_with_the_time(
    command: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "SOUGHT_S", 0.3)
    arguments = ["ask", "-p", "mix", "-q", "why?"] if command == "ask" else ["watch", RUN]
    with serving(begun(upto=9), *[error("503 Service Unavailable", "stopping")] * 9) as (url, heads):
        assert main([*arguments, "--server", url]) == 1
    assert 2 < len(heads) < 6
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"stairstream watch {RUN} --server {url}" in said
    assert "the run was looked for in vain for 0.005 minutes (stopping)" in said


def test_pauses_grow_up_to_a_bound() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        outage, tries = Outage(), []
        while await outage.wait("lost", noted.append, attaching.SOUGHT_S):
            tries.append(loop.time())
        return tries

    noted: list[str] = []
    tries = run(main())
    pauses = [round(after - before, 6) for before, after in zip([0.0, *tries], tries, strict=False)]
    assert pauses[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8] and {*pauses[8:-1]} == {15.0}
    assert tries[-1] == pytest.approx(600) and len(noted) == 1


def test_server_that_keeps_no_runs_is_asked_without(capsys: Captured) -> None:
    refused = error("400 Bad Request", "stairstream.keep_s: 60 is more than this server keeps a run (0 seconds)")
    with serving(refused, begun(), GONE) as (url, heads):
        assert main(["ask", "--server", url, "-p", "mix", "--json", "why?"]) == 0
    assert [body_of(head)["stairstream"] for head in heads[:2]] == [{"pace": "raw", "keep_s": 60.0}, {"pace": "raw"}]
    described = json.loads(capsys.readouterr().out)
    assert (described["answer"], described["stairstream"]) == (ANSWER, None)


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([error("404 Not Found", "model: no pipeline is called 'mix'")], 2, "no pipeline is called"),
        ([error("429 Too Many Requests", "too many runs")], 1, "too many runs"),
        ([error("401 Unauthorized", "no key")], 1, "--key-file"),
        ([whole("302 Found", b"")], 1, "is it a stairstream server?"),
    ],
)
def test_what_is_wrong_is_one_line(answers: list[bytes], code: int, said: str, capsys: Captured) -> None:
    with serving(*answers) as (url, _):
        assert main(["ask", "--server", url, "-p", "mix", "why?"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith("stairstream: error: ") and printed.count("\n") == 1 and said in printed


def test_configuration_beside_a_server_is_refused(capsys: Captured, tmp_path: Path) -> None:
    assert main(["ask", "--server", "http://127.0.0.1:1", "-c", str(tmp_path), "why?"]) == 2
    assert "--config" in capsys.readouterr().err


CONFIG = """
models:
  p: {{backend: scripted, length: 12, first_token_s: 0.05, token_s: 0.03}}
  a: {{backend: scripted, length: 40, first_token_s: 0.1, token_s: 0.05}}
pipelines:
  mix: {{topology: mixture, proposers: [p, p], aggregator: a, durable: true, policy: {{lead: inf}}}}
  plain: {{topology: single, model: a}}
server: {{database: '{file}', drain_s: 0}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    (tmp_path / "served.yaml").write_text(CONFIG.format(file=tmp_path / "s.db"))
    return tmp_path / "served.yaml"


class Asking:
    """`stairstream ask` in a process of its own; what it prints is in a file."""

    def __init__(self, url: str, out: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "stairstream", "ask", "--server", url, *arguments, "why?"]
        self._out = out
        with out.open("wb") as printed:
            self.process = subprocess.Popen(command, stdout=printed, stderr=subprocess.PIPE, text=True)

    def wait_printed(self, least: int) -> None:
        """Until so many characters are printed."""
        wait_for(lambda: len(self._out.read_text()) >= least)

    def end(self) -> tuple[int, str, str]:
        """The exit code, and what was printed on both outputs."""
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, self._out.read_text(), errors


@pytest.mark.slow
def test_whole_answer_although_the_server_is_killed_twice(server: Path, tmp_path: Path) -> None:
    with killable(server, 1) as (one,):
        _, whole, _ = Asking(one.url, tmp_path / "whole", "-q").end()
        asking = Asking(one.url, tmp_path / "said", "-q")
        for share in (1, 2):
            asking.wait_printed(share * len(whole) // 4)
            restart(one)
        code, said, errors = asking.end()
    assert (said, code) == (whole, 0)
    assert "error" not in errors


def restart(one: Killable) -> None:
    one.kill()
    one.start()


@pytest.mark.slow
def test_run_that_is_not_durable_is_lost_in_one_line(server: Path, tmp_path: Path) -> None:
    with killable(server, 1) as (one,):
        asking = Asking(one.url, tmp_path / "said", "-q", "-p", "plain")
        asking.wait_printed(20)
        restart(one)
        code, _, errors = asking.end()
    last = errors.splitlines()[-1]
    assert code == 1 and "the run is gone" in last and last.startswith("stairstream: error: ")


@pytest.mark.slow
def test_watched_run_is_whole_although_its_server_is_killed(server: Path, tmp_path: Path, capsys: Captured) -> None:
    with killable(server, 1) as (one,):
        asking = Asking(one.url, tmp_path / "said", "--json")
        found = wait_for(lambda: newest(server))
        killing = threading.Timer(0.5, restart, [one])
        killing.start()
        assert main(["watch", found, "--server", one.url]) == 0
        killing.join()
        described = json.loads(asking.end()[1])
    printed = capsys.readouterr()
    assert described["answer"] in printed.out and "ended: stop" in printed.out and "error" not in printed.err


def newest(server: Path) -> str | None:
    with sqlite3.connect(server.with_name("s.db")) as database:
        found = database.execute("SELECT id FROM journal_runs").fetchone()
    return found[0] if found else None


def wait_for(find: Callable[[], T | None]) -> T:
    for _ in range(400):
        if found := find():
            return found
        time.sleep(0.025)
    raise AssertionError("nothing came in 10 s")


@pytest.mark.slow
def test_interrupted_question_ends_its_run(server: Path, tmp_path: Path) -> None:
    with killable(server, 1) as (one,):
        asking = Asking(one.url, tmp_path / "said", "-q")
        asking.wait_printed(20)
        asking.process.send_signal(signal.SIGINT)
        assert asking.end()[0] == 130
        with urlopen(f"{one.url}/v1/runs/{newest(server)}") as answer:
            assert json.load(answer)["stairstream"]["ended"] == "cancelled"


@pytest.mark.slow
def test_question_whose_output_is_closed_ends_its_run(server: Path) -> None:
    with killable(server, 1) as (one,):
        command = [sys.executable, "-m", "stairstream", "ask", "--server", one.url, "-q", "why?"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
            assert asking.stdout is not None
            asking.stdout.read(1)
            asking.stdout.close()
            assert asking.wait(timeout=60) == 1
        with urlopen(f"{one.url}/v1/runs/{newest(server)}") as answer:
            assert json.load(answer)["stairstream"]["ended"] == "cancelled"
