"""Standard input, output and error of this process, so that nothing is lost in silence, and no error is a traceback.

Output that can't be written is an OutputFailed, whichever library writes it; what can't be said on standard error makes
the exit code one of failure.
"""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from stairstream.core.errors import RequestError, StairstreamError

_PLAIN = {
    # the marks of a picture, each as another character
    **dict(zip("◆▲━╌·✗┤…", "*^=-.x|.", strict=True)),
    # what models like to write
    **dict(zip("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--", strict=True)),
}


class OutputFailed(StairstreamError):
    """Standard output can't be written."""


class _Output(io.FileIO):
    """Standard output. The error is one of ours: libraries take a broken pipe for a reason to leave quietly."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as exc:
            raise OutputFailed(f"standard output can't be written: {_reason(exc)}") from None


class _Errors(io.FileIO):
    """Standard error. Where it can't be written there is nobody to be told."""

    has_failed = False

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            self.has_failed = True
            return len(data)  # type: ignore[arg-type]


class Streams:
    """The three streams, made fit for the command line; `finish` when it is done."""

    def __init__(self) -> None:
        codecs.register_error("plain", _put_plain)
        self._errors: _Errors | None = None
        if sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__:  # else a test captures them
            self._take_over()
        for stream, errors in ((sys.stdin, "strict"), (sys.stdout, "plain"), (sys.stderr, "plain")):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=errors)

    def _take_over(self) -> None:
        # a descriptor that is closed would be that of the next file: one that can't be used takes its number
        for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
            if not _is_open(number):
                os.set_inheritable(os.open(os.devnull, mode), True)
        if sys.stdin is None:
            sys.stdin = open(0, closefd=False)
        self._errors = _Errors(2, "w", closefd=False)
        sys.stdout = _as_text(_Output(1, "w", closefd=False), sys.stdout)
        sys.stderr = _as_text(self._errors, sys.stderr)

    def finish(self, code: int) -> int:
        """Write what is left; returns the exit code. Raises OutputFailed."""
        sys.stdout.flush()
        sys.stderr.flush()
        return code or (1 if self._errors and self._errors.has_failed else 0)

    def give_up_output(self) -> None:
        """Drop what could not be written, or the interpreter would try it again at its end."""
        if self._errors is None:
            return
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)


@contextmanager
def reading_input() -> Iterator[None]:
    """Standard input is read in this block. Raises RequestError if it can't be, or is not text."""
    try:
        yield
    except UnicodeDecodeError as exc:
        raise RequestError(f"standard input {describe(exc)}") from None
    except OSError as exc:
        raise RequestError(f"standard input can't be read: {_reason(exc)}") from None


def describe(exc: UnicodeDecodeError) -> str:
    """Says of bytes that they are no text, and where."""
    return f"is not {exc.encoding.upper()} text: byte 0x{exc.object[exc.start]:02x} after {exc.start} others"


def check_arguments(arguments: list[str]) -> None:
    """Raises RequestError for one with bytes that are no text: they would be lost on the way to a model."""
    for number, argument in enumerate(arguments, 1):
        try:
            os.fsencode(argument).decode(sys.getfilesystemencoding())
        except UnicodeDecodeError as exc:
            raise RequestError(f"argument {number} {describe(exc)}") from None


def _is_open(number: int) -> bool:
    with suppress(OSError):
        os.fstat(number)
        return True
    return False


def _as_text(raw: io.FileIO, like: TextIO | None) -> io.TextIOWrapper:
    encoding = like.encoding if like else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, line_buffering=raw.isatty() or raw.fileno() == 2)


def _reason(exc: OSError) -> str:
    return "it is closed" if exc.errno == errno.EBADF else (exc.strerror or str(exc)).lower()


def _put_plain(problem: UnicodeError) -> tuple[str, int]:
    assert isinstance(problem, UnicodeEncodeError)
    unknown = problem.object[problem.start : problem.end]
    return "".join(_PLAIN.get(character, "?") for character in unknown), problem.end
