"""Downloads a file over HTTP, continuing where an earlier try broke off."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from stairstream.core.errors import ConnectionFailed

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes in all; None: the size is unknown."""

TIMEOUT_S = 30.0
"""For a connection, and for the next bytes of it."""
_BLOCK = 1 << 18


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn the errors of urllib into ours."""
    try:
        yield
    except HTTPError as exc:
        exc.close()  # it is an open answer too
        raise ConnectionFailed(f"{where} answered {exc.code}") from exc
    except URLError as exc:
        raise ConnectionFailed(f"{where} cannot be reached: {exc.reason}") from exc
    except (TimeoutError, ConnectionError, EOFError) as exc:
        raise ConnectionFailed(f"{where} broke off: {exc or 'timed out'}") from exc


def download(url: str, part: Path, progress: Progress) -> None:
    """Bring a file to `part`, continuing after what is already there."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with translated(host_of(url)):
        try:
            answer = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
        except HTTPError as exc:
            if exc.code != 416:  # 416: there is nothing after what we have
                raise
            exc.close()
            return
        with answer:
            if answer.status != 206:
                have = 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with part.open("ab" if have else "wb") as file:
                copy(answer, file, lambda done: progress(have + done, total))
            if total is not None and part.stat().st_size < total:
                raise ConnectionFailed(f"{host_of(url)} broke off after {part.stat().st_size} of {total} bytes")


def copy(source: IO[bytes], target: IO[bytes], progress: Callable[[int], None]) -> str:
    """Copy block by block; returns the sha256 of what was copied."""
    digest, done = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        target.write(block)
        digest.update(block)
        done += len(block)
        progress(done)
    return digest.hexdigest()


def host_of(url: str) -> str:
    """The host of an address, for people."""
    return urlsplit(url).hostname or url
