"""The parts of aiohttp that `backends/telling` overrides or reads are those that were read and tested with it.

Nothing promises that they stay. Where this fails, read what changed, try `test_passing.py`, `tests/upstreams` and
`tests/faults` with the new version, and move TESTED there and the digests here.
"""

import hashlib
import inspect

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler

from stairstream.backends import telling

DIGESTS = {
    BaseProtocol: "b8cbe831e85f",
    ResponseHandler: "da5da6215c0e",
    aiohttp.StreamReader: "64f76413d16e",
}


@pytest.mark.parametrize("part", DIGESTS, ids=lambda part: part.__name__)
def test_a_part_that_is_overridden_is_as_it_was_read(part: type) -> None:
    assert hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:12] == DIGESTS[part]


def test_a_tested_version_is_installed() -> None:
    assert aiohttp.__version__.rpartition(".")[0] in telling.TESTED
