"""Fetches the data sets of evaluations from their public addresses."""

import gzip
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stairstream.backends.downloading import Progress, download, host_of
from stairstream.core.errors import ConfigError, ConnectionFailed, MalformedAnswer
from stairstream.eval.data import SYSTEMS, DataSet, path_of

_PICKED = int(
    "1bf87d2fc37ffd764ffffdedb7fd5afeef27ffaacfff7fefdbe74f57b3cfb7acbfdff3ef83e9fdfefb57f7fbf7b3bacef287ebdf7b"
    "fbfdfb7fb789a5cde5f3ddbeff8b99fd77f4ffc7e73fb6dc3ffd7f67fddff7f9dbedff7c5bdff6ff9ab68ff7bd3b7fff",
    16,
)
"""The prompts of AlpacaEval that are taken, a bit for each: those that all published numbers are of."""


def fetch_data(data: DataSet, progress: Progress = lambda done, total: None) -> Path:
    """The file of a data set, fetched if it is not there; an interrupted fetch is continued.

    Raises ConnectionFailed if an address can't be reached, MalformedAnswer if what came is not what was expected,
    ConfigError if it can't be kept.
    """
    path = path_of(data)
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [path.parent / f"{path.name}.{number}.part" for number in range(len(data.addresses))]
        _download_all(data, parts, progress)
        text = _join([part.read_bytes() for part in parts], data)
        found = hashlib.sha256(text).hexdigest()
        for part in parts:  # also those that are wrong, or they would be taken again
            part.unlink()
        if found != data.sha256:
            raise MalformedAnswer(_explain(data, f"holds other data (sha256 {found[:16]})"))
        _keep(text, path)
    except OSError as exc:
        raise ConfigError(f"cannot keep the data in {path.parent}: {exc.strerror or exc}") from exc
    return path


def _download_all(data: DataSet, parts: Sequence[Path], progress: Progress) -> None:
    """All files one after another, with the bytes of all of them as progress; the whole is known for the last one."""
    before = 0
    for number, (address, part) in enumerate(zip(data.addresses, parts, strict=True), 1):
        is_last = number == len(parts)

        def told(done: int, total: int | None, before: int = before, is_last: bool = is_last) -> None:
            progress(before + done, before + total if is_last and total is not None else None)

        try:
            download(address, part, told)
        except ConnectionFailed as exc:
            advice = f"get it from {data.project}, and name its file with --data"
            raise ConnectionFailed(f"cannot fetch {data.name}: {exc}; {advice}") from exc
        before += part.stat().st_size


def _join(files: Sequence[bytes], data: DataSet) -> bytes:
    """The text of a data set: a file as it is, or for AlpacaEval the answers of all systems to a prompt in one line."""
    if len(files) == 1:
        return files[0]
    try:
        rows = [json.loads(file) for file in files]
        outputs = [{row["instruction"]: row["output"].strip() for row in some} for some in rows]
        lines = [
            json.dumps(
                {
                    "id": f"alpaca-{number:03}",
                    "dataset": row["dataset"],
                    "instruction": row["instruction"],
                    "outputs": {name: its[row["instruction"]] for name, its in zip(SYSTEMS, outputs, strict=True)},
                },
                ensure_ascii=False,
            )
            for number, row in enumerate(rows[0])
            if _PICKED >> number & 1
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise MalformedAnswer(_explain(data, f"is not what was expected ({exc!r:.80})")) from exc
    return "".join(f"{line}\n" for line in lines).encode()


def _explain(data: DataSet, problem: str) -> str:
    return f"what came from {host_of(data.addresses[0])} as {data.name} {problem}; its home is {data.project}"


def _keep(text: bytes, path: Path) -> None:
    """Write it; it gets its name only when it is whole."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        scratch = Path(folder) / path.name
        scratch.write_bytes(gzip.compress(text, mtime=0))
        scratch.replace(path)
