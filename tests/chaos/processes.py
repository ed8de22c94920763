"""What is killed and started again: servers, the endpoints of their models, and their database."""

import asyncio
import random
import re
import signal
import socket
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.server.postgres import Postgres

START_S = 240.0
"""On a busy machine, with a database that is away now and then."""


class Victim(Protocol):
    """Something that is broken off and comes back."""

    name: str
    num_ends: int

    async def break_off(self, chance: random.Random) -> None:
        """End it; returns once it is there again."""


class Process:
    """A program of ours. `url` is empty while it is not there."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.url = ""
        self.num_ends = 0
        self._process: asyncio.subprocess.Process | None = None
        self._command = (sys.executable, "-m", "stairstream", *arguments)
        self._log = log
        self._is_there: re.Pattern[bytes] = re.compile(rb"(http://[\w.]+:\d+)")

    async def start(self) -> None:
        """Start; again, if it ends before it is there: its database may be away."""
        async with asyncio.timeout(START_S):
            while not self.url:
                with self._log.open("wb") as log:
                    process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
                self._process = process
                while process.returncode is None:
                    if found := self._is_there.search(self._log.read_bytes()):
                        self.url = found[1].decode()
                        return
                    await asyncio.sleep(0.05)

    async def end(self, how: signal.Signals) -> None:
        self.url = ""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.send_signal(how)
            await self._process.wait()

    async def break_off(self, chance: random.Random) -> None:
        """Most are killed, some are told to stop."""
        await self.end(signal.SIGKILL if chance.random() < 0.8 else signal.SIGTERM)
        self.num_ends += 1
        await self.start()


class Server(Process):
    """One process of the server."""

    def __init__(self, number: int, config: Path) -> None:
        arguments = ("serve", "-c", str(config))
        super().__init__(f"server {number}", arguments, config.with_name(f"server-{number}.log"))
        self._is_there = re.compile(rb"listening on (http://[\w.]+:\d+)")


class Engine(Process):
    """An endpoint of models, always at the same port."""

    def __init__(self, number: int, config: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        arguments = ("fake-server", "-c", str(config), "--port", str(self.port))
        super().__init__(f"engine {number}", arguments, config.with_name(f"engine-{number}.log"))


class LockedFile:
    """A SQLite file, which another program locks for a while: so it is away."""

    name = "database"

    def __init__(self, file: Path) -> None:
        self._file = file
        self.num_ends = 0

    async def break_off(self, chance: random.Random) -> None:
        other = sqlite3.connect(self._file, isolation_level=None, timeout=30, check_same_thread=False)
        try:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            await asyncio.sleep(chance.uniform(0.1, 3))
            other.execute("ROLLBACK")
        finally:
            other.close()
        self.num_ends += 1


class KilledPostgres:
    """A PostgreSQL, which is killed or restarted."""

    name = "database"

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.num_ends = 0

    async def break_off(self, chance: random.Random) -> None:
        await asyncio.to_thread(self._server.kill if chance.random() < 0.8 else self._server.stop)
        await asyncio.sleep(chance.uniform(0.1, 3))
        await asyncio.to_thread(self._server.start)
        self.num_ends += 1
