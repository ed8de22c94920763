"""A network between a process and its database that swallows everything, or only an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast


class Proxy:
    """Passes bytes on until `is_stuck`; a request that holds `last_words` is the last whose answer is swallowed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._through = asyncio.Event()
        self._through.set()
        self._answers = asyncio.Event()
        self._answers.set()
        self.last_words: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def stick(self) -> None:
        """Pass nothing on from now on; connections stay open."""
        self._through.clear()

    def pass_on(self) -> None:
        """Pass everything on again."""
        self.last_words = None
        self._through.set()
        self._answers.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes by one connection, until either side closes it."""
        self._tasks.add(task := cast("asyncio.Task[None]", asyncio.current_task()))
        upstream, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pipe(reader, upstream_writer, self._through, is_request=True))
                tasks.create_task(self._pipe(upstream, writer, self._answers, is_request=False))
        except asyncio.CancelledError:
            pass  # by `aclose`
        finally:
            for one in (writer, upstream_writer):
                one.transport.abort()
            self._tasks.discard(task)

    async def aclose(self) -> None:
        """Cut every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event, *, is_request: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if is_request and self.last_words is not None and self.last_words in data:
                    self._answers.clear()
                await gate.wait()
                if not is_request:
                    await self._answers.wait()
                writer.write(data)
                await writer.drain()
            writer.close()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy to a port of this machine, and its own port."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await proxy.aclose()
        await server.wait_closed()
