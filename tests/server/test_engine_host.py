"""The engine host of several workers, killed while answers come from its models: none differs by a word."""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from stairstream.config.schema import parse_config
from stairstream.server.workers.hosting import hosted_models
from tests.server.asking import Client, RunClient, asking_at
from tests.server.test_workers import host_of, is_replaced, start, wait_for, workers_of

pytest.importorskip("uvicorn")

CONFIG = """
server: {{port: 0, workers: 2, database: {folder}/server.db}}
models:
  words: {{backend: scripted, length: 150, token_s: 0.02, first_token_s: 0.1, replicas: {{}}}}
  plain: {{backend: scripted, length: 3}}
pipelines:
  single: {{topology: single, model: words}}
  mix: {{topology: mixture, proposers: [words, words, plain], aggregator: words}}
  kept: {{topology: single, model: words, durable: true}}
"""
ANSWER = " ".join(f"words_{number}" for number in range(1, 151))


def test_a_scripted_model_is_hosted_if_it_has_replicas() -> None:
    assert hosted_models(parse_config(CONFIG.format(folder="."), "c.yaml", {})) == ("words",)


@contextmanager
def serving(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of two workers and an engine host: its process, and its address."""
    file = tmp_path / "server.yaml"
    file.write_text(CONFIG.format(folder=tmp_path))
    with start("serve", "-c", str(file), ready="listening") as (server, line):
        found = re.search(r"http://[^\s,]+", line)
        assert found
        wait_for(lambda: len(workers_of(server)) == 3)
        yield server, found[0]


@pytest.mark.slow
def test_answers_and_durable_runs_outlive_the_engine_host(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, url):
        answers = [*(Client("single", f"Question {number}?") for number in range(4)), Client("mix", "Why?")]
        runs = [RunClient("kept", f"Question {number}?") for number in range(4)]
        with asking_at(url, [*answers, *runs]):
            time.sleep(1.5)
            os.kill(killed := host_of(server), signal.SIGKILL)
        assert [(one.text, one.finish, one.error) for one in answers] == [(ANSWER, "stop", None)] * 5
        assert [(one.text, one.num_returns) for one in runs] == [(ANSWER, 0)] * 4
        assert all("retry" in one.notes for one in runs)
        assert host_of(server) != killed


@pytest.mark.slow
def test_durable_runs_outlive_the_engine_host_and_their_worker(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, url):
        runs = [RunClient("kept", f"Question {number}?") for number in range(8)]
        with asking_at(url, runs):
            time.sleep(1.5)
            host = host_of(server)
            worker = next(pid for pid in workers_of(server) if pid != host)
            os.kill(host, signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
        assert [one.text for one in runs] == [ANSWER] * 8
        assert all([number for number, _, _ in one.events] == list(range(len(one.events))) for one in runs)
        assert any("takeover" in one.notes for one in runs)
        wait_for(lambda: is_replaced(server, worker, 3))


@pytest.mark.slow
def test_a_run_that_another_worker_has_is_shown_or_it_is_said_how(tmp_path: Path) -> None:
    async def look(url: str, run_id: str) -> tuple[int, str]:
        """On a connection of its own, so that any worker may have it."""
        async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/runs/{run_id}") as response:
            return response.status, await response.text()

    async def main(url: str) -> None:
        body = {"model": "single", "messages": [{"role": "user", "content": "Why?"}]}
        async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/runs", json=body) as response:
            run_id = response.headers["x-stairstream-run"]
            for status, text in await asyncio.gather(*(look(url, run_id) for _ in range(20))):
                assert status == 200 or (status == 404 and "durable: true" in text)

    with serving(tmp_path) as (_, url):
        asyncio.run(main(url))
