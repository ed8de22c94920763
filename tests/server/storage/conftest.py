"""The databases that the contract of storages is tested on."""

from pathlib import Path

import pytest

from stairstream.config.databases import Database, read_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return tmp_path / "a" / "s.db"
    return read_database(request.getfixturevalue("postgres").new_database())
