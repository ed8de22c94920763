"""A file of results that are expensive to compute: JSON lines, each under a key made of all that it depends on."""

import hashlib
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from stairstream.core.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


class _Line(msgspec.Struct, Generic[T], frozen=True):
    key: str
    value: T


def key_of(*parts: object) -> str:
    """A digest of values of plain types and dataclasses: it changes if anything in them does."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


class Kept(Generic[T]):
    """A file that grows by a line per value. A last line that was cut off by a crash is dropped, and writing continues.

    Raises ConfigError if the file holds something else.
    """

    def __init__(self, file: Path, kind: type[T]) -> None:
        self._file = file
        self._values: dict[str, T] = {}
        # msgspec builds the decoder of a generic type at run time
        self._decoder: msgspec.json.Decoder[_Line[T]] = msgspec.json.Decoder(_Line[kind])  # type: ignore[valid-type]
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._load()
        except OSError as exc:
            raise ConfigError(f"{file} can't be read and written: {exc.strerror or exc}; choose another --out") from exc

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> T | None:
        """The value that was kept under a key, None if there is none."""
        return self._values.get(key)

    def put(self, key: str, value: T) -> None:
        """Keep a value; it is in the file when this returns. Raises ConfigError if it can't be written."""
        self._values[key] = value
        try:
            with self._file.open("ab") as out:
                out.write(msgspec.json.encode(_Line(key, value)) + b"\n")
        except OSError as exc:
            raise ConfigError(f"{self._file} can't be written: {exc.strerror or exc}; choose another --out") from exc

    def _load(self) -> None:
        self._file.touch()
        whole = self._file.read_bytes()
        lines = whole.split(b"\n")
        if torn := lines.pop():
            with self._file.open("r+b") as out:
                out.truncate(len(whole) - len(torn))
        for number, raw in enumerate(lines, 1):
            try:
                line = self._decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                where = f"{self._file}, line {number}"
                raise ConfigError(f"{where}: {exc}; remove the line, or choose another --out") from exc
            self._values[line.key] = line.value
