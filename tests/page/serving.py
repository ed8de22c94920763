"""A served configuration in a process of its own, and a connection in front of it that can be cut."""

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
_URL = re.compile(r"listening on (http://\S+?),? ")


@contextmanager
def served(config: Path) -> Iterator[str]:
    """The server's address while the block is open."""
    command = [sys.executable, "-m", "stairstream", "serve", "-c", str(config), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            found = next(filter(None, map(_URL.search, server.stdout)))
            yield found[1]
        finally:
            server.terminate()


class Cuttable:
    """A TCP relay to a server that can cut every connection, and refuse new ones."""

    def __init__(self, target: str) -> None:
        self._host, self._port = target.removeprefix("http://").split(":")
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run)
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self.is_open = True
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["Cuttable"]:
        """Relays while the block is open."""
        self._thread.start()
        self._started.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._loop.close()

    def cut(self) -> None:
        """Every connection is lost at once."""
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        self._abort()
        server.close()
        await asyncio.sleep(0.05)  # the relays end of their lost connections

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            writer.transport.abort()
            return
        there, onward = await asyncio.open_connection(self._host, int(self._port))
        both = {writer, onward}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pipe(reader, onward))
                tasks.create_task(_pipe(there, writer))
        finally:
            self._writers -= both


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
