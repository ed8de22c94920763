"""Clients for Node as they are, against a served pipeline; `make test-clients` installs them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_clients import ANSWER, run_server

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "node"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("node") is None or not (ROOT / "node_modules").is_dir(), reason="make test-clients installs them"
    ),
]


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_server(tmp_path_factory.mktemp("served")) as url:
        yield url


def run_script(name: str, base_url: str) -> Any:
    said = subprocess.run(
        ["node", str(SCRIPTS / name), base_url], cwd=SCRIPTS, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr[-3000:]
    return json.loads(said.stdout)


def test_second_turn_of_the_ai_sdk_is_answered(base_url: str) -> None:
    got = run_script("responses.mjs", base_url)
    assert (got["first"], got["second"]) == (ANSWER, ANSWER)
    assert got["kinds"] == ["user", "item_reference", "user"]


def test_vendors_packages_are_answered(base_url: str) -> None:
    got = run_script("sdks.mjs", base_url)
    assert got["texts"] == [ANSWER] * 6
    assert all(got["ids"]) and got["refused"][0] == 404 and got["refused"][1]
