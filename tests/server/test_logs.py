"""Logs are JSON lines, and hold what people said only where that is asked for."""

import asyncio
import io
import json
import logging
import threading
import time
from typing import Any

import pytest

pytest.importorskip("starlette")

from stairstream.server.http.watching import AnsweredRequest
from stairstream.server.observing.logs import describe_run, log_request, log_runs, log_waits, logging_to
from tests.server.finished import finish


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def answered(status: int | None) -> AnsweredRequest:
    return AnsweredRequest(method="GET", route=None, path="/x", status=status, total_s=0.5)


def test_run_is_one_line_with_its_numbers() -> None:
    (finished,) = finish("mix")
    stream = io.StringIO()
    with logging_to(stream):
        log_runs(with_prompts=False)(finished)
    (line,) = lines(stream)
    assert (line["level"], line["message"], line["run"]) == ("info", "run", finished.run_id)
    assert (line["pipeline"], line["ended"], line["first_token_s"]) == ("mix", "stop", 1.0)


def test_that_tools_make_a_pipeline_wait_is_said_once_for_each() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    finished = [*finish("mix"), *finish("mix", "mix", tools=[tool])]
    stream = io.StringIO()
    with logging_to(stream):
        observe = log_waits()
        for one in finished:
            observe(one)
    (line,) = lines(stream)
    assert (line["level"], line["message"], line["pipeline"]) == ("warning", "waits", "mix")
    assert line["why"].startswith("tools") and line["run"] == finished[1].run_id


def test_no_word_of_a_conversation_is_logged_unless_asked_for() -> None:
    (finished,) = finish("mix")
    without = json.dumps(describe_run(finished, with_prompts=False))
    assert "sky" not in without and "Blue" not in without and "p_1" not in without
    described = describe_run(finished, with_prompts=True)
    assert described["answer"] == "Blue light scatters most."
    assert described["conversation"] == [{"role": "user", "content": "Why is the sky blue?"}]


def test_only_requests_that_were_refused_have_a_line() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        for status in (200, None, 401, 500):
            log_request(answered(status))
    assert [(line["level"], line["status"]) for line in lines(stream)] == [("info", 401), ("error", 500)]


def test_traceback_stays_on_its_line_and_cancelling_is_no_error() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        for error in (ValueError("two\nlines"), asyncio.CancelledError()):
            try:
                raise error
            except (ValueError, asyncio.CancelledError) as exc:
                logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=exc)
    (line,) = lines(stream)
    assert line["error"].endswith("ValueError: two\nlines")


def test_logging_is_as_before_afterwards() -> None:
    before = list(logging.getLogger().handlers)
    with logging_to(io.StringIO()):
        assert len(logging.getLogger().handlers) == len(before) + 1
    assert logging.getLogger().handlers == before


class Pipe(io.StringIO):
    """Nobody reads it until `reading` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = threading.Event()

    def write(self, text: str) -> int:
        assert self.reading.wait(5)
        return super().write(text)


def _count_dropped(stream: Pipe) -> int:
    return sum(line["number"] for line in lines(stream) if line["message"] == "log lines were dropped")


def test_log_without_a_reader_blocks_no_run_and_says_later_what_was_dropped() -> None:
    stream = Pipe()
    with logging_to(stream, most_waiting=2):
        for _ in range(50):
            log_request(answered(401))
        stream.reading.set()
        give_up_s = time.monotonic() + 20
        while _count_dropped(stream) < 50 - sum(line.get("status") == 401 for line in lines(stream)):
            assert time.monotonic() < give_up_s  # a note may come between, and another one after it
            log_request(answered(404))
            time.sleep(0.001)
    written = lines(stream)
    notes = [line for line in written if line["message"] == "log lines were dropped"]
    assert (notes[0]["level"], written[0]["status"]) == ("warning", 401)
    assert _count_dropped(stream) >= 50 - sum(line.get("status") == 401 for line in written) > 0


@pytest.mark.slow
def test_log_that_is_never_read_does_not_keep_the_process() -> None:
    stream = Pipe()
    with logging_to(stream, most_waiting=2):
        for _ in range(5):
            log_request(answered(401))
    stream.reading.set()
