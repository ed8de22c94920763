"""Bodies are unpacked a piece at a time, and no further than they are worth."""

import gzip
import zlib

import pytest

from stairstream.backends.bodies import FREE_BYTES, PIECE_BYTES, BadBody, Unpacker


def unpacked(encoding: str, data: bytes) -> bytes:
    unpacker, found = Unpacker(encoding), b""
    while data:
        piece, data = unpacker.unpack(data)
        assert len(piece) <= PIECE_BYTES
        found += piece
    return found


def test_what_was_packed_comes_out_in_pieces() -> None:
    text = bytes(range(256)) * 1024
    assert unpacked("gzip", gzip.compress(text)) == text
    assert unpacked("deflate", zlib.compress(text)) == text
    assert unpacked("gzip", gzip.compress(text) + gzip.compress(b"more")) == text + b"more"


def test_a_bomb_is_not_unpacked_to_its_end() -> None:
    unpacker, data, size = Unpacker("gzip"), gzip.compress(bytes(4 * FREE_BYTES)), 0
    with pytest.raises(BadBody, match="times its size"):
        while data:
            piece, data = unpacker.unpack(data)
            size += len(piece)
    assert size <= 2 * FREE_BYTES


@pytest.mark.parametrize(("encoding", "data"), [("br", b""), ("gzip", b"no gzip at all"), ("deflate", b"\x00\x01")])
def test_what_cannot_be_unpacked_is_said(encoding: str, data: bytes) -> None:
    with pytest.raises(BadBody):
        unpacked(encoding, data)
