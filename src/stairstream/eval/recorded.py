"""Reads recorded data: a file of JSON lines, with or without gzip. A bad file is a ConfigError of one line."""

import gzip
import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from stairstream.core.errors import ConfigError
from stairstream.eval.data import advise

_GZIP_MAGIC = b"\x1f\x8b"
_MOST_NAMED = 4
"""Keys of a line that an error names."""

Row = TypeVar("Row", bound=msgspec.Struct)
T = TypeVar("T")


class RecordedPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt with the answers of several systems, by the system's name."""

    id: str
    instruction: str
    outputs: dict[str, str]
    dataset: str = ""


def read_rows(file: Path, row: type[Row]) -> list[Row]:
    """The lines of a file as values, at least one.

    Raises ConfigError, with the line's number, if the file is missing, empty, truncated, or holds something else.
    """
    rows = list(iterate_rows(file, row))
    if not rows:
        raise ConfigError(f"{file} is empty; expected a JSON object per line{_fields(row)}")
    return rows


def iterate_rows(file: Path, row: type[Row]) -> Iterator[Row]:
    """Yields the lines of a file as values. Raises ConfigError as read_rows does, once it reaches the bad line."""
    decoder = msgspec.json.Decoder(row)
    for number, line in _read_lines(file):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:  # a value of the wrong shape is one of these too
            raise ConfigError(f"{file}, line {number}: {exc}; expected a JSON object per line{_fields(row)}") from exc


def read_prompts(file: Path, systems: tuple[str, ...] = ()) -> list[RecordedPrompt]:
    """Prompts with the answers of at least these systems. Raises ConfigError as read_rows does."""
    rows = read_rows(file, RecordedPrompt)
    for number, row in enumerate(rows, 1):
        check_outputs(row, systems, f"{file}, prompt {number}")
    return rows


def pick(rows: Sequence[T], limit: int | None) -> list[T]:
    """A random sample of at most `limit` rows, the same in every run; a larger limit contains the smaller sample."""
    order = list(rows)
    random.Random(0).shuffle(order)
    return order[:limit]


def check_outputs(row: RecordedPrompt, systems: tuple[str, ...], where: str) -> None:
    """Raises ConfigError if the output of one of the systems is missing."""
    missing = [name for name in systems if not row.outputs.get(name, "").strip()]
    if missing:
        known = ", ".join(sorted(row.outputs)) or "none"
        raise ConfigError(f"{where} ({row.id}): no output of {missing[0]}; it has: {known}")


def _read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1."""
    number = 0
    try:
        with file.open("rb") as raw:
            is_packed = raw.read(2) == _GZIP_MAGIC
        with gzip.open(file) if is_packed else file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise ConfigError(f"there is no file {file}; {advise(file)}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise ConfigError(f"{file} is truncated or damaged after line {number}; fetch it again") from exc
    except OSError as exc:
        raise ConfigError(f"{file} can't be read: {exc.strerror or exc}") from exc


def _fields(row: type[msgspec.Struct]) -> str:
    names = [field.encode_name for field in msgspec.structs.fields(row) if field.required]
    if len(names) > _MOST_NAMED:
        names[_MOST_NAMED:] = [f"{len(names) - _MOST_NAMED} more"]
    return f" with {', '.join(names)}" if names else ""
