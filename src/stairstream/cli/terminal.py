"""Output for a terminal: words without control characters, and a spinner on standard error."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from stairstream.core.metrics import Summary

_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # these reorder what stands after them
_PICTURES = {
    **dict.fromkeys((*_CONTROLS, *_TURNS), "\ufffd"),
    **{code: chr(0x2400 + code) for code in range(0x20) if code in _CONTROLS},
    0x7F: "\u2421",
}


ENDS: Mapping[str | None, str] = {
    "length": "the answer is cut off, at max_tokens or where the context was full",
    "deadline": "the answer is what there was by then",
    "budget": "the answer is what there was by then",
}
"""Said of an answer that is not whole, by the reason for its end."""


def printable(text: str) -> str:
    """Without what would steer a terminal: a model's words are only words."""
    return text.translate(_CONTROLS)


def tell(text: str) -> None:
    """A line on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def reveal(text: str) -> str:
    """As printable, but what would steer a terminal, or turn text around, is seen: its picture stands instead of it."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


def describe_gap(summary: Summary) -> str:
    """The longest gap as it was seen, and as it was written where that is another."""
    shown, written = f"{summary.longest_gap_s:.2f} s", f"{summary.longest_gap_written_s:.2f} s"
    return f"longest gap {shown}" + ("" if shown == written else f" ({written} before pace)")


def show_loading(name: str) -> AbstractContextManager[None]:
    """A spinner while a model is loaded."""
    return show_waiting(f"loading {name}")


@contextmanager
def show_waiting(text: str) -> Iterator[None]:
    """A spinner with this text on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
