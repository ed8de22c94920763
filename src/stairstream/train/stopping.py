"""Signals that ask a run to stop: it finishes the train step in flight, saves, and says that it can be continued."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""A scheduler's before it kills or preempts, and a person's Ctrl-C."""


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: str | None = None


@contextmanager
def catching_signals(*, is_alone: bool) -> Iterator[StopRequest]:
    """Take signals as requests while the block lasts.

    In a process that is alone a second Ctrl-C ends it at once; launchers send each rank the same signal twice.
    """
    request = StopRequest()

    def note(number: int, _: FrameType | None) -> None:
        request.signal = signal.Signals(number).name
        if number == signal.SIGINT and is_alone:
            signal.signal(number, before[signal.SIGINT])

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
