"""Several processes on one socket: they die, are replaced and drain without a broken answer."""

import asyncio
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from stairstream.config.schema import Config, load_config
from stairstream.server.workers import hosting
from stairstream.server.workers.hosting import engines_of, hosted_models
from stairstream.server.workers.station import Engines, Started, Station, read_station, share_of
from stairstream.server.workers.supervisor import supervise
from tests.backends.local_model import llamacpp_model

pytest.importorskip("uvicorn")

TOKENS = 100
CONFIG = """
server: {{port: 0, workers: {workers}, database: {folder}/server.db}}
models:
  a: {{backend: openai, base_url: {address}, model: a}}
pipelines:
  {name}: {{topology: single, model: a}}
"""


def read(text: str, tmp_path: Path) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    return load_config(file)


def test_a_station_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = read(CONFIG.format(workers=2, folder=tmp_path, address="http://h/v1", name="mix"), tmp_path)
    station = Station(
        number=1, workers=2, speaks=False, config=config, listening=5, metrics=None, line=7, tally=8, seat=1
    )
    assert read_station(Station, pickle.dumps(station)) == station
    assert station.descriptors == (5, 7, 8)
    engines = Engines(models=("a",), path=tmp_path / "engines", in_use=11)
    assert replace(station, metrics=9, engines=engines).descriptors == (5, 7, 8, 9, 11)


def test_each_worker_has_its_share_of_connections_and_none_of_runs(tmp_path: Path) -> None:
    config = read(CONFIG.format(workers=2, folder=tmp_path, address="http://h/v1", name="mix"), tmp_path)
    config = replace(config, server=replace(config.server, limits=replace(config.server.limits, runs=9, connections=3)))
    shares = [share_of(config, workers).server.limits for workers in (1, 2, 4)]
    assert [(one.runs, one.connections) for one in shares] == [(9, 3), (9, 2), (9, 1)]


def test_a_signal_ends_a_server_whose_models_still_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llamacpp_model()
    started: list[Started] = []

    async def start_slowly(module: str, make_station: object) -> Started:
        """A host that never comes to serve."""
        ours, _ = lines
        ours.setblocking(False)
        started.append(Started(await asyncio.create_subprocess_exec("sleep", "100"), ours))
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        return started[0]

    monkeypatch.setattr(hosting, "start_process", start_slowly)
    lines = socket.socketpair()
    with lines[1]:
        said: list[str] = []
        assert (
            asyncio.run(supervise(read(f"server: {{port: 0, workers: 2}}{LOADED}", tmp_path), None, said.append))
            is None
        )
    assert said == ["the engine host loads a"]
    assert started[0].process.returncode == -signal.SIGKILL


SMOL = "backend: llamacpp, model: smollm2-135m-instruct"
LOADED = f"""
models:
  a: {{{SMOL}}}
  b: {{backend: openai, base_url: http://h/v1, model: b}}
  c: {{backend: torch, model: x}}
pipelines:
  mix: {{topology: mixture, proposers: [a, b], aggregator: a}}
"""


def test_models_that_are_loaded_here_are_for_all_workers(tmp_path: Path) -> None:
    assert hosted_models(read(LOADED, tmp_path)) == ("a",)


def test_other_engines_need_another_host(tmp_path: Path) -> None:
    """Another policy or price does not, more sessions in a run do."""
    llamacpp_model()
    one = engines_of(read(LOADED, tmp_path), ("a",))
    assert engines_of(read(LOADED.replace("http://h", "http://other"), tmp_path), ("a",)) == one
    for change in (
        ("mixture, proposers: [a, b]", "mixture, proposers: [a, a]"),
        (SMOL, f"{SMOL}, context_tokens: 512"),
    ):
        assert engines_of(read(LOADED.replace(*change), tmp_path), ("a",)) != one


def test_an_adapter_that_was_trained_again_needs_another_host(tmp_path: Path) -> None:
    llamacpp_model()
    (tmp_path / "adapter").mkdir()
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    config = read(LOADED.replace(SMOL, f"{SMOL}, adapter: {tmp_path / 'adapter'}"), tmp_path)
    weights.write_bytes(b"1")
    one = engines_of(config, ("a",))
    assert engines_of(config, ("a",)) == one
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert engines_of(config, ("a",)) != one


@contextmanager
def start(*command: str, ready: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command of ours, once it has printed a line with `ready`; it is told to stop at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stairstream", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            yield process, next(line for line in lines if ready in line)
        finally:
            process.terminate()
            process.wait(30)


@asynccontextmanager
async def serving(tmp_path: Path, workers: int = 2) -> AsyncIterator[tuple[subprocess.Popen[str], str, Path]]:
    """A server of that many workers before a fake endpoint; its process, address and file."""
    fake = ("fake-server", "--model", "a", "--port", "0", "--length", str(TOKENS))
    with start(*fake, "--first-token-s", "0.2", "--token-s", "0.03", ready="http://") as (_, line):
        found = re.search(r"http://\S+", line)
        assert found
        file = tmp_path / "server.yaml"
        file.write_text(CONFIG.format(workers=workers, folder=tmp_path, address=found[0], name="mix"))
        with start("serve", "-c", str(file), ready="listening") as (server, line):
            found = re.search(r"http://[^\s,]+", line)
            assert found
            wait_for(lambda: len(workers_of(server)) == workers)
            yield server, found[0], file


def workers_of(server: subprocess.Popen[str]) -> list[int]:
    """The processes that a supervisor has started, oldest first."""
    text = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def is_replaced(server: subprocess.Popen[str], killed: int, workers: int) -> bool:
    """Whether there are as many as before, without the one that was killed."""
    pids = workers_of(server)
    return killed not in pids and len(pids) == workers


def wait_for(holds: Callable[[], bool], most_s: float = 60) -> None:
    until_s = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < until_s, "it did not come to hold"
        time.sleep(0.05)


def metrics(address: str) -> str:
    """As a worker tells them, by a connection of its own."""
    with urllib.request.urlopen(f"{address}/metrics") as response:
        text: str = response.read().decode()
        return text


async def ask(client: aiohttp.ClientSession, address: str, model: str = "mix") -> str:
    """The end of a streamed answer: `[DONE]`, if it is whole."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "?"}]}
    async with client.post(f"{address}/v1/chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        lines = (await response.text()).split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert len(text.split()) == TOKENS
    return lines[-2].removeprefix("data: ")


@pytest.mark.slow
def test_replacing_all_workers_breaks_no_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, address, file), aiohttp.ClientSession() as client:
            before = workers_of(server)
            streams = [asyncio.create_task(ask(client, address)) for _ in range(50)]
            await asyncio.sleep(1)
            file.write_text(file.read_text().replace("mix:", "other:"))
            server.send_signal(signal.SIGHUP)
            assert await asyncio.gather(*streams) == ["[DONE]"] * 50
            await asyncio.to_thread(wait_for, lambda: not set(before) & set(workers_of(server)))
            assert len(workers_of(server)) == 2
            async with aiohttp.ClientSession() as fresh:
                assert await ask(fresh, address, "other") == "[DONE]"

    asyncio.run(main())


@pytest.mark.slow
def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, address, file), aiohttp.ClientSession() as client:
            before = workers_of(server)
            file.write_text("models: [")
            server.send_signal(signal.SIGHUP)
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            said = await asyncio.to_thread(next, (line for line in lines if "SIGHUP: nothing" in line))
            assert "nothing is changed" in said and str(file) in said
            assert workers_of(server) == before
            assert await ask(client, address) == "[DONE]"

    asyncio.run(main())


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_and_the_others_continue(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, address, file), aiohttp.ClientSession() as client:
            streams = [asyncio.create_task(ask(client, address)) for _ in range(20)]
            await asyncio.sleep(1)
            file.write_text("models: [")  # the others serve by what it was
            killed, kept = workers_of(server)
            os.kill(killed, signal.SIGKILL)
            ended = await asyncio.gather(*streams, return_exceptions=True)
            whole = [one for one in ended if one == "[DONE]"]
            assert all(isinstance(one, aiohttp.ClientError) for one in ended if one not in whole)
            await asyncio.to_thread(wait_for, lambda: is_replaced(server, killed, 2))
            assert kept in workers_of(server)
            answers = [ask(client, address) for _ in range(20)]
            assert await asyncio.gather(*answers) == ["[DONE]"] * 20

    asyncio.run(main())


@pytest.mark.slow
def test_all_workers_drain_and_count_together(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, workers=3) as (server, address, _), aiohttp.ClientSession() as client:
            assert await asyncio.gather(*(ask(client, address) for _ in range(9))) == ["[DONE]"] * 9
            total = 'stairstream_runs_total{ended="stop",pipeline="mix"} 9.0'
            # a run is counted when it is over, a little after its last byte
            await asyncio.to_thread(wait_for, lambda: total in metrics(address), 10)
            for _ in range(5):  # whichever worker is asked
                text = await asyncio.to_thread(metrics, address)
                assert total in text
                assert "stairstream_runs_in_flight 0.0" in text
            streams = [asyncio.create_task(ask(client, address)) for _ in range(6)]
            await asyncio.sleep(1)
            pids = workers_of(server)
            server.terminate()
            assert await asyncio.gather(*streams) == ["[DONE]"] * 6
            assert await asyncio.to_thread(server.wait, 30) == 0
            assert not living(pids)

    asyncio.run(main())


@pytest.mark.slow
def test_the_limit_of_runs_is_that_of_all_workers(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, workers=3) as (server, address, file), aiohttp.ClientSession() as client:
            before = workers_of(server)
            file.write_text(file.read_text().replace("port: 0", "port: 0, limits: {runs: 12}"))
            server.send_signal(signal.SIGHUP)
            await asyncio.to_thread(wait_for, lambda: not living(before))
            killed, *_ = workers_of(server)
            os.kill(killed, signal.SIGKILL)
            await asyncio.to_thread(wait_for, lambda: is_replaced(server, killed, 3))
            for _ in range(2):  # what has ended is counted no more
                ended = await asyncio.gather(*(ask(client, address) for _ in range(40)), return_exceptions=True)
                assert 12 <= ended.count("[DONE]") <= 14
                assert all("takes no more at once" in str(one) for one in ended if one != "[DONE]")

    asyncio.run(main())


@pytest.mark.slow
def test_a_server_whose_first_worker_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    text = CONFIG.format(workers=2, folder=tmp_path / "no" / "such", address="http://127.0.0.1:1/v1", name="mix")
    (tmp_path / "no").write_text("a file, not a folder")
    file.write_text(text)
    command = [sys.executable, "-m", "stairstream", "serve", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    why, last = done.stderr.splitlines()
    assert str(tmp_path / "no") in why
    assert "the first worker could not start" in last


HOSTED = f"""
server: {{{{port: 0, workers: 2, database: {{folder}}/server.db}}}}
models:
  a: {{{{{SMOL}, max_tokens: 60, temperature: 0, slots: 4, context_tokens: {{context}}}}}}
pipelines:
  mix: {{{{topology: single, model: a}}}}
"""


@asynccontextmanager
async def serving_llama(tmp_path: Path) -> AsyncIterator[tuple[subprocess.Popen[str], str, Path]]:
    """A server of two workers with one llama.cpp for both."""
    llamacpp_model()
    file = tmp_path / "server.yaml"
    file.write_text(HOSTED.format(folder=tmp_path, context=512))
    with start("serve", "-c", str(file), ready="listening") as (server, line):
        found = re.search(r"http://[^\s,]+", line)
        assert found
        wait_for(lambda: len(workers_of(server)) == 3)
        yield server, found[0], file


def host_of(server: subprocess.Popen[str]) -> int:
    """The process of the engine host."""
    (host,) = [pid for pid in workers_of(server) if "engine_host" in Path(f"/proc/{pid}/cmdline").read_text()]
    return host


async def say(address: str) -> str:
    """An answer on a connection of its own, so that any worker may have it."""
    body = {"model": "mix", "stream": True, "messages": [{"role": "user", "content": "Tell me about the sea."}]}
    async with aiohttp.ClientSession() as client, client.post(f"{address}/v1/chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        lines = (await response.text()).split("\n\n")
    assert lines[-2] == "data: [DONE]", lines
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


@pytest.mark.slow
def test_workers_share_one_llama_and_its_host_may_die(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving_llama(tmp_path) as (server, address, _):
            host = host_of(server)
            texts = await asyncio.gather(*(say(address) for _ in range(8)))
            assert set(texts) == {texts[0]} and texts[0]
            answers = [asyncio.create_task(say(address)) for _ in range(3)]
            await asyncio.sleep(0.5)
            os.kill(host, signal.SIGKILL)
            assert len([text for text in await asyncio.gather(*answers) if text]) == 3
            assert host_of(server) != host
            pids = [*workers_of(server), host_of(server)]
            server.terminate()
            assert await asyncio.to_thread(server.wait, 30) == 0
            assert not living(pids)

    asyncio.run(main())


@pytest.mark.slow
def test_changed_models_are_loaded_before_workers_are_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving_llama(tmp_path) as (server, address, file):
            host, before = host_of(server), workers_of(server)
            streams = [asyncio.create_task(say(address)) for _ in range(3)]
            await asyncio.sleep(0.5)
            file.write_text(HOSTED.format(folder=tmp_path, context=256))
            server.send_signal(signal.SIGHUP)
            assert all(await asyncio.gather(*streams))
            await asyncio.to_thread(wait_for, lambda: not living(before))
            assert len(workers_of(server)) == 3 and host_of(server) != host
            assert await say(address)
            kept = host_of(server)
            before = [pid for pid in workers_of(server) if pid != kept]
            server.send_signal(signal.SIGHUP)  # nothing that the engines depend on has changed
            await asyncio.to_thread(wait_for, lambda: not living(before))
            assert host_of(server) == kept
            file.write_text(HOSTED.format(folder=tmp_path, context=100_000))
            server.send_signal(signal.SIGHUP)
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            await asyncio.to_thread(next, (line for line in lines if "SIGHUP: nothing is changed" in line))
            assert host_of(server) == kept
            assert await say(address)

    asyncio.run(main())
