"""`stairstream serve` as a process: how it starts, whom it lets in, and how it stops."""

import http.client
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from stairstream.cli.main import main

CONFIG = """
models:
  quick: {backend: scripted, text: "Blue light scatters most.", max_tokens: 1000, price: {prompt: 0, completion: 1000}}
  slow: {backend: scripted, length: 60, token_s: 0.05}
  endless: {backend: scripted, length: 5000, token_s: 0.05}
pipelines:
  quick: {topology: single, model: quick}
  slow: {topology: single, model: slow}
  endless: {topology: single, model: endless}
server: {database: "%s", drain_s: %g%s}
"""
Captured = pytest.CaptureFixture[str]
LAST_SAID = ("stairstream: no key is set", "stairstream: every request needs a key")
"""The line after which a server takes requests."""


class Serving:
    """A server that runs in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, said: list[str]) -> None:
        self.process, self.port, self.said = process, port, said
        self._connections = ExitStack()

    def begin(self, method: str, path: str, body: object = None, key: str = "") -> http.client.HTTPResponse:
        """The beginning of an answer: its status and headers."""
        connection = self._connections.enter_context(
            closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10))
        )
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
        """Status and JSON of an answer."""
        response = self.begin(method, path, body, key)
        text = response.read()
        return response.status, json.loads(text) if response.headers.get_content_subtype() == "json" else text.decode()

    def chat(self, model: str, key: str = "", **fields: object) -> tuple[int, Any]:
        return self.ask("POST", "/v1/chat/completions", chat(model, **fields), key)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def listen(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def hang_up(self) -> None:
        """Close every connection."""
        self._connections.close()

    def wait(self) -> tuple[int, str, str]:
        """Exit code, and the rest of what it printed."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


def chat(model: str, **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Why?"}], **fields}


def write_config(folder: Path, drain_s: float = 10, more: str = "") -> str:
    file = folder / "c.yaml"
    file.write_text(CONFIG % (folder / "server.db", drain_s, more))
    return str(file)


@contextmanager
def serving(config: str, *options: str, open_files: int | None = None) -> Iterator[Serving]:
    """`open_files`: all that the process may have open, and may not raise."""
    command = [sys.executable, "-m", "stairstream", "serve", "-c", config, "--port", "0", *options]
    if open_files is not None:
        command = ["sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline()]
            while not said[-1].startswith(LAST_SAID) and said[-1]:
                said.append(process.stdout.readline())
            found = re.search(r"http://[^ ]*:(\d+),", "".join(said))
            assert found, (said, process.poll())
            server = Serving(process, int(found[1]), said)
            try:
                yield server
            finally:
                server.hang_up()
        finally:
            process.kill()


def make_key(capsys: Captured, config: str, *options: str) -> str:
    capsys.readouterr()
    assert main(["keys", "create", "me", "-c", config, *options]) == 0
    return capsys.readouterr().out.strip()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Ask again and again, since other processes are not notified."""
    give_up_s = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def wait_runs(capsys: Captured, config: str, number: int) -> None:
    """Wait until so many runs are written."""

    def are_written() -> bool:
        capsys.readouterr()
        assert main(["keys", "list", "-c", config, "--json"]) == 0
        return bool(json.loads(capsys.readouterr().out)[0]["runs"] == number)

    wait_until(are_written)


# Starting


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ("", ["--host", "0.0.0.0"], "without a key the server listens on this machine only, not on 0.0.0.0"),
        ("", ["--host", "nowhere.invalid"], "can't listen on nowhere.invalid:"),
        (", cors_origins: ['*']", [], "server.cors_origins: without a key * would let any web page spend money"),
        (", drain_s: soon", [], "the key 'drain_s' is there twice"),
        (", history: 1", [], "server.history: must be true or false, not 1"),
    ],
)
def test_what_is_wrong_with_the_settings_stops_the_start_with_one_line(
    more: str, options: list[str], said: str, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["serve", "-c", write_config(tmp_path, more=more), "--port", "0", *options]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_port_that_is_taken_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "-c", write_config(tmp_path), "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"stairstream: error: can't listen on 127.0.0.1:{port}: address already in use\n"


def test_model_that_is_not_there_is_one_line_with_keys_too(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        f"models: {{m: {{backend: llamacpp, model: {tmp_path}/none.gguf}}}}\n"
        "pipelines: {one: {topology: single, model: m}}\n"
        f"server: {{database: {tmp_path}/server.db}}"
    )
    make_key(capsys, str(file))
    assert main(["serve", "-c", str(file), "--port", "0"]) == 2
    printed = capsys.readouterr()
    assert "none.gguf" in printed.err and printed.err.count("\n") == 1


@pytest.mark.slow
def test_it_says_where_it_listens_what_it_serves_and_whether_keys_are_needed(tmp_path: Path) -> None:
    with serving(write_config(tmp_path)) as server:
        assert server.said[0].startswith("stairstream: listening on http://127.0.0.1:")
        assert server.said[1] == "stairstream: models: quick, slow, endless\n"
        assert "no key is set, so only this machine may call" in server.said[2]
        assert server.ask("GET", "/healthz")[0] == 200
        assert server.ask("GET", "/readyz") == (200, {"status": "ready"})
        assert server.chat("quick")[0] == 200
        status, page = server.ask("GET", "/metrics")
        assert status == 200 and 'stairstream_runs_total{ended="stop",pipeline="quick"} 1.0' in page
        assert not (tmp_path / "server.db").exists()


# Keys


@pytest.mark.slow
def test_keys_are_needed_once_there_are_some_and_revoking_works_on_a_server_that_runs(
    tmp_path: Path, capsys: Captured
) -> None:
    config = write_config(tmp_path)
    key, other = make_key(capsys, config), make_key(capsys, config)
    with serving(config, "--host", "0.0.0.0") as server:
        assert "every request needs a key" in server.said[2]
        for path in ("/v1/models", "/metrics"):
            assert server.ask("GET", path)[0] == 401
            assert server.ask("GET", path, key=key)[0] == 200
        assert server.ask("GET", "/healthz")[0] == 200
        assert server.chat("quick", "sk-stair-no")[0] == 401
        assert server.chat("quick", key)[0] == 200
        key_id = key.split("-")[2]
        assert main(["keys", "revoke", key_id, "-c", config]) == 0
        wait_until(lambda: server.ask("GET", "/v1/models", key=key)[0] == 401)
        assert server.chat("quick", key)[0] == 401
        assert server.chat("quick", other)[0] == 200
        server.stop()
        code, _, log = server.wait()
        assert code == 0
        assert key not in log and other not in log and "Why?" not in log
    capsys.readouterr()
    assert main(["keys", "list", "-c", config, "--json"]) == 0
    assert [one["runs"] for one in json.loads(capsys.readouterr().out)] == [1, 1]


@pytest.mark.slow
def test_two_servers_on_one_database_spend_a_budget_once(tmp_path: Path, capsys: Captured) -> None:
    config = write_config(tmp_path)
    # four tokens at 0.001 each are 0.004 a run; up to 0.1 is reserved for its hundred
    key = make_key(capsys, config, "--budget", "0.12")
    with serving(config) as one, serving(config) as other:
        statuses: list[int] = []
        for server in (one, other) * 6:
            statuses.append(server.chat("quick", key, max_tokens=100)[0])
            wait_runs(capsys, config, statuses.count(200))  # what a run did not use is written after its answer
        # 0.1 is there as long as no more than 0.02 is spent: after the sixth run 0.024 is
        assert statuses == [200] * 6 + [402] * 6
        assert one.chat("quick", key, max_tokens=96)[0] == 200
        wait_runs(capsys, config, 7)
        status, error = other.chat("quick", key, max_tokens=96)
        assert (status, error["error"]["type"]) == (402, "insufficient_quota")


@pytest.mark.slow
def test_run_that_is_killed_counts_by_what_was_reserved(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    Path(config).write_text(
        Path(config).read_text().replace("token_s: 0.05}", "token_s: 0.05, price: {prompt: 0, completion: 1000}}")
    )
    key = make_key(capsys, config, "--budget", "0.12")
    with serving(config) as server:
        answer = server.begin("POST", "/v1/chat/completions", chat("endless", max_tokens=100, stream=True), key)
        assert answer.read(1)
        server.stop(signal.SIGKILL)
        server.process.wait()
    with serving(config) as server:
        assert server.chat("quick", key, max_tokens=100)[0] == 402  # still reserved
    with sqlite3.connect(tmp_path / "server.db") as database:  # a minute later
        database.execute("UPDATE holders SET seen_at_s = seen_at_s - 61")
    database.close()
    with serving(config) as server:
        assert server.chat("quick", key, max_tokens=100)[0] == 402
        assert server.chat("quick", key, max_tokens=10)[0] == 200
        wait_runs(capsys, config, 2)


@pytest.mark.slow
def test_new_key_works_at_once(tmp_path: Path, capsys: Captured) -> None:
    config = write_config(tmp_path)
    make_key(capsys, config)
    with serving(config) as server:
        for _ in range(3):
            assert server.ask("GET", "/v1/models", key=make_key(capsys, config))[0] == 200


@pytest.mark.slow
def test_too_few_open_files_are_said_at_the_start_and_it_serves_what_it_can(tmp_path: Path) -> None:
    with serving(write_config(tmp_path), open_files=300) as server:
        assert server.said[0] == (
            "stairstream: limits.connections: 2048 needs 4160 open files, and this process may have 300; "
            "first run: ulimit -n 4160; or lower limits.connections. With less, the server refuses connections when it "
            "is full\n"
        )
        assert server.chat("quick")[0] == 200
    with serving(write_config(tmp_path, more=", limits: {connections: 64}"), open_files=300) as server:
        assert "listening" in server.said[0]


@pytest.mark.slow
def test_cache_that_cannot_be_written_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file, where the folder should be")
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path / "cache"))
    with serving(write_config(tmp_path)) as server:
        assert server.said[0] == (
            f"stairstream: can't write the folder {tmp_path / 'cache'}, so what endpoints support and how fast they "
            "are is learned again after each start; STAIRSTREAM_CACHE names another one\n"
        )
        assert server.chat("quick")[0] == 200


@pytest.mark.slow
def test_data_folder_that_cannot_be_written_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "server.db").mkdir()
    command = [sys.executable, "-m", "stairstream", "serve", "-c", write_config(tmp_path), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2 and ended.stdout == ""
    assert f"can't open the database {tmp_path / 'server.db'}: is a directory; its folder must be" in ended.stderr
    assert ended.stderr.count("\n") == 1


# Limits


@pytest.mark.slow
def test_body_too_large_and_runs_too_many_are_refused(tmp_path: Path) -> None:
    with serving(write_config(tmp_path, more=", limits: {body_mb: 0.001, runs: 1}")) as server:
        status, error = server.chat("quick", padding="x" * 2000)
        assert (status, error["error"]["code"]) == (413, "request_too_large")
        server.begin("POST", "/v1/chat/completions", chat("endless", stream=True))
        response = server.begin("POST", "/v1/chat/completions", chat("quick"))
        assert (response.status, response.headers["retry-after"]) == (503, "1")


# Stopping


@pytest.mark.slow
def test_sigterm_lets_an_answer_end_refuses_others_and_exits_0(tmp_path: Path) -> None:
    with serving(write_config(tmp_path)) as server:
        running = server.begin("POST", "/v1/chat/completions", chat("slow", stream=True))
        server.stop()
        assert "1 run in flight may continue for 10 s" in server.listen()
        assert server.ask("GET", "/readyz")[0] == 503
        assert server.ask("GET", "/healthz")[0] == 200
        status, error = server.chat("quick")
        assert (status, error["error"]["code"]) == (503, "stopping")
        assert running.read().endswith(b"data: [DONE]\n\n")
        assert server.wait()[0] == 0


@pytest.mark.slow
def test_answer_that_does_not_end_in_time_is_cut_off_with_an_error(tmp_path: Path) -> None:
    with serving(write_config(tmp_path, drain_s=0.5)) as server:
        running = server.begin("POST", "/v1/chat/completions", chat("endless", stream=True))
        server.stop()
        text = running.read()
        code, out, log = server.wait()  # the whole answer would take minutes
        assert code == 0
        assert "1 run in flight cut off" in out
        assert b'"error"' in text and b"[DONE]" not in text and b'"finish_reason":"' not in text
        assert b"the server was shut down" in text and b'"ended":"shutdown"' in text
        assert '"ended":"shutdown"' in log


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with serving(write_config(tmp_path, drain_s=60)) as server:
        server.begin("POST", "/v1/chat/completions", chat("endless", stream=True))
        server.stop()
        assert "1 run in flight may continue for 60 s" in server.listen()
        server.stop(second)
        code, _, log = server.wait()
        assert code == 128 + second
        assert "Traceback" not in log
