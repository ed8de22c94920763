"""Small JSON files in the cache folder, which processes share. One that can't be read or written is as good as none.

Each holds a few hundred bytes and is written seldom, so nothing here needs a thread.
"""

import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def can_store(folder: Path) -> bool:
    """Whether files can be made in that folder, which may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def load_json(path: Path, kind: type[T]) -> T:
    """The file's value; one of defaults where there is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return kind()


def store_json(path: Path, value: msgspec.Struct) -> None:
    """Replace the file in one step, so that no reader sees half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(value)))
        os.replace(name, path)
    except OSError:
        return
