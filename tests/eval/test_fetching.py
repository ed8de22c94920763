"""Data sets of evaluations, fetched from addresses on loopback."""

import gzip
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from stairstream.backends.downloading import download
from stairstream.cli.main import main
from stairstream.core.errors import ConfigError, ConnectionFailed, MalformedAnswer
from stairstream.eval import data as data_sets
from stairstream.eval import fetching
from stairstream.eval.data import ALPACA_EVAL, DATA_SETS, GSM8K, SYSTEMS, DataSet, find_data, path_of
from stairstream.eval.fetching import fetch_data
from stairstream.eval.recorded import RecordedPrompt, read_prompts, read_rows

TEXT = b'{"question": "1 + 1?", "answer": "#### 2"}\n'


class Files(http.server.BaseHTTPRequestHandler):
    """A host of files by their paths; `wanted` are the ranges that it was asked for."""

    files: ClassVar[Mapping[str, bytes]] = {}
    wanted: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path not in self.files:
            self.send_error(404)
            return
        self.wanted.append(self.headers["Range"])
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        body = self.files[self.path][start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str | None]]]:
    """The files on loopback: their address, and the ranges that are asked for."""
    wanted: list[str | None] = []
    handler = type("Handler", (Files,), {"files": files, "wanted": wanted})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", wanted
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no data next to a checkout."""
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_sets, "_BESIDE", tmp_path / "none")
    return tmp_path / "cache"


def small(address: str, text: bytes = TEXT) -> DataSet:
    """GSM8K with one problem, at this address."""
    return replace(GSM8K, addresses=(f"{address}/test.jsonl",), sha256=hashlib.sha256(text).hexdigest())


def test_file_comes_whole_is_checked_and_is_found_by_evaluations(cache: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serve({"/test.jsonl": TEXT}) as (address, wanted):
        path = fetch_data(small(address), lambda done, total: told.append((done, total)))
        assert fetch_data(small(address)) == path and len(wanted) == 1
    assert path == cache / "data" / GSM8K.file == find_data(GSM8K)
    assert gzip.decompress(path.read_bytes()) == TEXT
    assert told[-1] == (len(TEXT), len(TEXT))
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_interrupted_fetch_is_continued() -> None:
    with serve({"/test.jsonl": TEXT}) as (address, wanted):
        data = small(address)
        part = path_of(data).parent / f"{data.file}.0.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(TEXT[:10])
        fetch_data(data)
    assert wanted == ["bytes=10-"]


def test_other_data_is_refused_and_nothing_of_it_is_kept() -> None:
    with serve({"/test.jsonl": b"<html>"}) as (address, _):
        with pytest.raises(MalformedAnswer, match=r"holds other data .*; its home is https://github.com/openai"):
            fetch_data(small(address))
        assert [*path_of(GSM8K).parent.iterdir()] == []


def test_address_that_is_not_there_names_the_home_of_the_data() -> None:
    with serve({}) as (address, _), pytest.raises(ConnectionFailed, match=r"answered 404; get it from https://github"):
        fetch_data(small(address))


def test_answers_of_all_systems_become_a_line_for_each_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PICKED", 0b101)
    prompts = ["Why?", "How?", "When?"]
    files = {
        f"/{name}": json.dumps(
            [{"dataset": "koala", "instruction": one, "output": f" {name} says. "} for one in prompts]
        ).encode()
        for name in SYSTEMS
    }
    rows = [
        {
            "id": f"alpaca-{number:03}",
            "dataset": "koala",
            "instruction": prompts[number],
            "outputs": {name: f"{name} says." for name in SYSTEMS},
        }
        for number in (0, 2)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with serve(files) as (address, _):
        addresses = tuple(f"{address}/{name}" for name in SYSTEMS)
        data = replace(ALPACA_EVAL, addresses=addresses, sha256=hashlib.sha256(text).hexdigest())
        path = fetch_data(data)
    assert [row.instruction for row in read_prompts(path, SYSTEMS)] == ["Why?", "When?"]


def test_set_of_600_prompts_is_picked() -> None:
    assert fetching._PICKED.bit_count() == 600 and fetching._PICKED.bit_length() == 805


def test_file_that_is_missing_names_the_way_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fetch it with: stairstream eval fetch alpaca-eval"):
        read_rows(find_data(ALPACA_EVAL), RecordedPrompt)
    with pytest.raises(ConfigError, match="name another one"):
        read_rows(tmp_path / "own.jsonl", RecordedPrompt)


@pytest.mark.parametrize("name", DATA_SETS)
def test_recorded_data_of_a_checkout_is_what_a_fetch_gives(name: str) -> None:
    file = Path(__file__).parent.parent.parent / "../shared/data" / DATA_SETS[name].file
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    assert hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest() == DATA_SETS[name].sha256


def test_command_says_licence_and_prints_the_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve({"/test.jsonl": TEXT}) as (address, _):
        monkeypatch.setattr("stairstream.cli.eval_fetch.DATA_SETS", {"gsm8k": small(address)})
        assert main(["eval", "fetch", "gsm8k"]) == 0
        printed = capsys.readouterr()
        assert printed.out.strip() == str(path_of(GSM8K))
        assert "licence: MIT" in printed.err and "fetching gsm8k" in printed.err
        assert main(["eval", "fetch"]) == 0
        assert str(path_of(GSM8K)) in capsys.readouterr().out
        assert main(["eval", "fetch", "gsm9k"]) == 2
        assert "did you mean 'gsm8k'" in capsys.readouterr().err


def test_download_that_breaks_off_says_so(tmp_path: Path) -> None:
    class Short(Files):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Short) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with pytest.raises(ConnectionFailed, match="broke off after 1 of 100 bytes"):
                download(f"http://127.0.0.1:{server.server_address[1]}/x", tmp_path / "x", lambda done, total: None)
        finally:
            server.shutdown()
            thread.join()
