"""Values that are kept in a file survive the process, and a crash."""

from pathlib import Path

import msgspec
import pytest

from stairstream.core.errors import ConfigError
from stairstream.core.policy import PRESETS
from stairstream.eval.kept import Kept, key_of


class Word(msgspec.Struct, frozen=True):
    text: str


def test_values_are_found_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "words.jsonl"
    Kept(file, Word).put("a", Word("one"))
    again = Kept(file, Word)
    assert again.get("a") == Word("one") and again.get("b") is None and len(again) == 1


def test_torn_last_line_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "words.jsonl"
    Kept(file, Word).put("a", Word("one"))
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:-5])
    again = Kept(file, Word)
    again.put("b", Word("two"))
    assert len(file.read_bytes().splitlines()) == 2
    assert Kept(file, Word).get("b") == Word("two")


def test_foreign_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "words.jsonl"
    file.write_text('{"key": "a", "value": 3}\n')
    with pytest.raises(ConfigError, match=r"line 1: .*remove the line"):
        Kept(file, Word)


def test_path_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose another --out"):
        Kept(tmp_path / "file" / "words.jsonl", Word)


def test_key_changes_with_anything_in_it() -> None:
    assert key_of("a", PRESETS["paper"]) == key_of("a", PRESETS["paper"])
    assert len({key_of("a", one) for one in PRESETS.values()}) == len(PRESETS)
