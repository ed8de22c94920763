"""A served configuration in a process of its own that can be killed, and started again at the same address."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LISTENING = re.compile(r"listening on (http://[\w.]+:(\d+))")
_STARTS_S = 60


class Killable:
    """A server; `url` stays the same over its lives."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._port = "0"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "stairstream", "serve", "-c", str(self._config), "--port", self._port]
        log = self._config.with_suffix(f".{id(self)}.log")
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        for _ in range(_STARTS_S * 20):
            if found := _LISTENING.search(log.read_text()):
                self.url, self._port = found[1], found[2]
                return
            time.sleep(0.05)
        raise AssertionError(f"a server did not start: {log.read_text()}")

    def kill(self) -> None:
        """End it without a chance to do anything more."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def killable(config: Path, count: int) -> Iterator[list[Killable]]:
    """So many servers of a configuration while the block is open."""
    found = [Killable(config) for _ in range(count)]
    try:
        for one in found:
            one.start()
        yield found
    finally:
        for one in found:
            one.kill()
