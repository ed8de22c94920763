"""Fetches what others have trained and shared, by its address and its checksum: a GGUF file, or an adapter in a zip."""

import hashlib
import re
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from stairstream.backends.downloading import Progress, download
from stairstream.backends.gguf import check_gguf
from stairstream.backends.models import models_folder
from stairstream.core.errors import ConfigError, ModelUnusable

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def is_url(name: str) -> bool:
    """Whether it is an address to fetch from."""
    return name.startswith(("https://", "http://"))


def fetch_shared(url: str, sha256: str | None, progress: Progress = lambda done, total: None) -> Path:
    """The GGUF file, or the folder of the adapter, that is kept of an address; an interrupted fetch is continued.

    Raises ConfigError without a checksum or for another kind of file, ConnectionFailed, and ModelUnusable if what came
    is not what was expected.
    """
    name = Path(unquote(urlsplit(url).path)).name
    stem, _, kind = name.rpartition(".")
    if not stem or kind.lower() not in ("gguf", "zip"):
        raise ConfigError(f"pull: {url} is neither a .gguf file nor a .zip with an adapter of peft")
    if sha256 is None or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError("pull: an address needs the SHA-256 of its file: --sha256 and 64 hexadecimal digits")
    wanted = sha256.lower()
    path = models_folder() / f"{stem}-{wanted[:8]}{'.gguf' if kind.lower() == 'gguf' else ''}"
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.parent / f"{wanted}.part"
        download(url, part, progress)
        try:
            _check(part, wanted, url)
            _keep(part, path)
        finally:
            part.unlink(missing_ok=True)  # of what is not what was expected nothing is of use
    except OSError as exc:
        raise ConfigError(f"cannot keep what was fetched in {path.parent}: {exc.strerror or exc}") from exc
    return path


def _check(part: Path, wanted: str, url: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise ModelUnusable(f"what {url} sent has the SHA-256 {found}, not {wanted}")


def _keep(part: Path, path: Path) -> None:
    """Put it where it is looked for, whole or not at all."""
    if path.suffix == ".gguf":
        check_gguf(part)
        part.rename(path)
        return
    with TemporaryDirectory(dir=path.parent) as room:
        made = Path(room) / path.name
        made.mkdir()
        _unpack(part, made)
        made.rename(path)


def _unpack(file: Path, folder: Path) -> None:
    """The two files of an adapter, wherever they are in the zip; nothing else of it."""
    try:
        with zipfile.ZipFile(file) as packed:
            for wanted in _ADAPTER:
                found = [one for one in packed.namelist() if Path(one).name == wanted]
                if len(found) != 1:
                    raise ModelUnusable(f"the zip has {len(found)} files {wanted}; an adapter of peft has one")
                with packed.open(found[0]) as source, (folder / wanted).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except zipfile.BadZipFile as exc:
        raise ModelUnusable(f"what was fetched is no zip: {exc}") from exc
