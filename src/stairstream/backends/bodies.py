"""The body of a response in pieces of bounded size, also one that is compressed though it was not asked for.

Left to aiohttp, a few hundred kilobytes become hundreds of megabytes in one go, and no other call is served meanwhile.
"""

import asyncio
import zlib
from collections.abc import Callable

import aiohttp

PIECE_BYTES = 32768
"""So much is read, and unpacked, before others get their turn."""

FREE_BYTES, RATIO = 8 * 1024 * 1024, 100
"""The most times its size that a larger body may unpack to: streams of chunks reach 50."""

_PLAIN = ("", "identity")
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class BadBody(ValueError):
    """A body that is not what its Content-Encoding says, or says something that was not asked for."""


class BodyReader:
    """Reads a response piece by piece; BadBody where it can't be unpacked."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.content = response.content
        self.wake: Callable[[], None] | None = None
        """Wakes its reader where that waits for something else than `read()`: the response is closed."""
        self._left = b""
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        self._unpacker = None if encoding in _PLAIN else Unpacker(encoding)

    @property
    def is_plain(self) -> bool:
        """Whether the next piece is what the network has next."""
        return self._unpacker is None and not self._left

    def put_back(self, data: bytes) -> bytes:
        """The first piece of what was read; the rest is left for the next times."""
        self._left = data[PIECE_BYTES:]
        return data[:PIECE_BYTES]

    async def read(self) -> bytes:
        """The next piece, b"" at the end."""
        while True:
            if self._left:
                await asyncio.sleep(0)  # there is more of it at once: others first
            else:
                self._left = await self.content.readany()
                if not self._left:
                    return b""
            if self._unpacker is None:
                return self.put_back(self._left)
            piece, self._left = self._unpacker.unpack(self._left)
            if piece:
                return piece


class Unpacker:
    """Unpacks gzip or deflate, a piece at a time; BadBody for what is neither, or a bomb."""

    def __init__(self, encoding: str) -> None:
        if encoding not in _WINDOW_BITS:
            raise BadBody(f"compressed with {encoding[:20]}, which was not asked for")
        self._window_bits = _WINDOW_BITS[encoding]
        self._inner = zlib.decompressobj(self._window_bits)
        self._packed = self._unpacked = 0

    def unpack(self, data: bytes) -> tuple[bytes, bytes]:
        """The next piece, and what of the data is left for the next time."""
        if self._inner.eof:  # one stream after the other, as some servers flush
            self._inner = zlib.decompressobj(self._window_bits)
        try:
            piece = self._inner.decompress(data, PIECE_BYTES)
        except zlib.error as exc:
            raise BadBody(f"its compressed body is broken ({exc})") from exc
        rest = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
        self._packed += len(data) - len(rest)
        self._unpacked += len(piece)
        if self._unpacked > FREE_BYTES + RATIO * self._packed:
            raise BadBody(f"its compressed body unpacks to more than {RATIO} times its size")
        return piece, rest


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """A whole body, or its first `limit` bytes."""
    reader, pieces, size = BodyReader(response), list[bytes](), 0
    while size < limit and (piece := await reader.read()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)[:limit]
