"""The command line of a benchmark: its own words as help, and one line for a file or a value that is wrong."""

import argparse
import math
import sys
from argparse import ArgumentTypeError
from types import TracebackType

from stairstream.core.errors import StairstreamError


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it is. What is wrong with a value then ends the process in a line."""
    sys.excepthook = _end
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def one_or_more(text: str) -> int:
    """A whole number of 1 or more, as an option's type."""
    return _whole(text, 1)


def zero_or_more(text: str) -> int:
    """A whole number of 0 or more, as an option's type."""
    return _whole(text, 0)


def positive(text: str) -> float:
    """A number above 0, infinity too, as an option's type."""
    value = _number(text)
    if not value > 0:
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def not_negative(text: str) -> float:
    """A number of 0 or more, infinity too, as an option's type."""
    value = _number(text)
    if not value >= 0:
        raise ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return value


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
    return int(text)


def _number(text: str) -> float:
    """The number, or NaN, which no bound holds for."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _end(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """As Python does, without the traceback where the message is meant for who typed the command; its status is 1."""
    if isinstance(exc, StairstreamError):
        print(f"error: {' '.join(str(exc).split())}", file=sys.stderr)
    elif isinstance(exc, OSError) and exc.filename:
        print(f"error: {exc.filename}: {exc.strerror}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, exc, trace)
