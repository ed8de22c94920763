"""Shared adapters and GGUF files: fetched by address, kept if they are what was promised."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from stairstream.backends.shared_files import fetch_shared
from stairstream.core.errors import ConfigError, ConnectionFailed, ModelUnusable

GGUF = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(64)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder that is served on loopback, and its address; what is fetched is kept in another."""
    monkeypatch.setenv("STAIRSTREAM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def put(file: Path, data: bytes) -> str:
    file.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def pack(file: Path, *names: str) -> str:
    with zipfile.ZipFile(file, "w") as packed:
        for name in names:
            packed.writestr(name, f"what is in {name}")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_gguf_is_kept_under_its_name_and_fetched_once(site: tuple[Path, str]) -> None:
    folder, url = site
    digest = put(folder / "mixer.gguf", GGUF)
    path = fetch_shared(f"{url}/mixer.gguf", digest.upper())
    assert path.name == f"mixer-{digest[:8]}.gguf"
    assert path.read_bytes() == GGUF
    (folder / "mixer.gguf").unlink()
    assert fetch_shared(f"{url}/mixer.gguf", digest) == path


def test_an_adapter_is_a_folder_with_its_two_files_alone(site: tuple[Path, str]) -> None:
    folder, url = site
    names = ("mine/adapter_config.json", "mine/adapter_model.safetensors", "../../evil", "mine/README.md")
    digest = pack(folder / "mine.zip", *names)
    path = fetch_shared(f"{url}/mine.zip", digest)
    assert sorted(one.name for one in path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_is_not_what_was_promised_is_not_kept(site: tuple[Path, str]) -> None:
    folder, url = site
    put(folder / "mixer.gguf", GGUF)
    with pytest.raises(ModelUnusable, match=r"has the SHA-256 .*, not 0000"):
        fetch_shared(f"{url}/mixer.gguf", "0" * 64)
    digest = pack(folder / "half.zip", "adapter_config.json")
    with pytest.raises(ModelUnusable, match=r"the zip has 0 files adapter_model.safetensors"):
        fetch_shared(f"{url}/half.zip", digest)
    digest = put(folder / "none.zip", b"text")
    with pytest.raises(ModelUnusable, match="is no zip"):
        fetch_shared(f"{url}/none.zip", digest)
    with pytest.raises(ConnectionFailed, match="answered 404"):
        fetch_shared(f"{url}/gone.gguf", digest)
    assert list((folder.parent / "cache" / "models").glob("*.part")) == []


def test_a_checksum_and_a_known_kind_of_file_are_needed() -> None:
    with pytest.raises(ConfigError, match="needs the SHA-256 of its file"):
        fetch_shared("https://example.org/a.gguf", None)
    with pytest.raises(ConfigError, match=r"is neither a .gguf file nor a .zip"):
        fetch_shared("https://example.org/a.bin", "0" * 64)
