"""The databases that journals are tested on."""

from pathlib import Path

import pytest

from stairstream.config.databases import Database, read_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return tmp_path / "server.db"
    return read_database(request.getfixturevalue("postgres").new_database())
