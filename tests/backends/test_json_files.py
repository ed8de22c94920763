"""Folders in which small files are kept: whether one can be made there is known before it is."""

from pathlib import Path

import pytest

from stairstream.backends.json_files import can_store


@pytest.mark.parametrize(
    ("folder", "can"),
    [(".", True), ("not/there/yet", True), ("file", False), ("file/inside", False)],
)
def test_files_can_be_kept_where_folders_are_or_can_be_made(tmp_path: Path, folder: str, can: bool) -> None:
    (tmp_path / "file").write_text("")
    assert can_store(tmp_path / folder) is can


def test_folder_that_the_system_forbids_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert not can_store(tmp_path)
