"""The parts of uvicorn that we override are those that were read and tested with ours.

Nothing promises that they stay. Where this fails, read what changed, try `test_connection.py`, `test_leaving.py` and
`test_serve.py` with the new version, and move the range in `pyproject.toml` and the digests here.
"""

import hashlib
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
TESTED = ("0.53", "0.54")
DIGESTS = {
    HttpToolsProtocol: "18fdf324b11b",
    RequestResponseCycle: "e67d470d435d",
    FlowControl: "126debcdaa89",
    Server: "06e799f7c58f",
}


@pytest.mark.parametrize("part", DIGESTS, ids=lambda part: part.__name__)
def test_a_part_that_is_overridden_is_as_it_was_read(part: type) -> None:
    assert hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:12] == DIGESTS[part]


def test_only_tested_versions_are_installed() -> None:
    wanted = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]["server"]
    after = f"0.{int(TESTED[-1].split('.')[1]) + 1}"
    assert f"uvicorn>={TESTED[0]},<{after}" in wanted
    assert version("uvicorn").rpartition(".")[0] in TESTED
