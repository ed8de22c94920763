"""Data files: the values read, and a clear line for each wrong file."""

import gzip
from pathlib import Path

import msgspec
import pytest

from stairstream.core.errors import ConfigError
from stairstream.eval.recorded import RecordedPrompt, pick, read_prompts, read_rows

LINE = b'{"id": "a-1", "instruction": "Why?", "outputs": {"m": "Because.", "n": "So."}}\n'


def write(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "data.jsonl.gz"
    file.write_bytes(content)
    return file


def complaint(file: Path, *systems: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_prompts(file, systems)
    text = str(caught.value)
    assert "\n" not in text and str(file) in text
    return text


@pytest.mark.parametrize("packed", [True, False])
def test_lines_become_values(tmp_path: Path, packed: bool) -> None:
    content = LINE + b"\n" + LINE.replace(b"a-1", b"a-2")
    file = write(tmp_path, gzip.compress(content) if packed else content)
    rows = read_prompts(file, ("m", "n"))
    assert [row.id for row in rows] == ["a-1", "a-2"]
    assert rows[0] == RecordedPrompt(id="a-1", instruction="Why?", outputs={"m": "Because.", "n": "So."})


def test_larger_choice_has_all_of_a_smaller_one() -> None:
    rows = list(range(50))
    assert pick(rows, 30)[:10] == pick(rows, 10)
    assert pick(rows, 10) != rows[:10]
    assert sorted(pick(rows, 500)) == rows


def test_another_encoding_says_so(tmp_path: Path) -> None:
    assert "line 1: " in complaint(write(tmp_path, LINE.replace(b"Why", "Wär".encode("latin-1"))))


def test_values_may_be_of_any_shape(tmp_path: Path) -> None:
    class Question(msgspec.Struct):
        question: str

    assert read_rows(write(tmp_path, b'{"question": "Why?", "more": 1}'), Question) == [Question("Why?")]


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert "there is no file" in complaint(tmp_path / "none.jsonl.gz")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "can't be read" in complaint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"")], ids=["nothing", "lines", "packed"])
def test_an_empty_file_says_so(tmp_path: Path, content: bytes) -> None:
    assert "is empty; expected a JSON object per line with id, instruction, outputs" in complaint(
        write(tmp_path, content)
    )


@pytest.mark.parametrize("wrong", [b"just words", b'{"id": 3}', b"[]", b'{"id": "a"}', b"\xff\xfe\x00", b'{"id": '])
def test_a_wrong_line_is_named(tmp_path: Path, wrong: bytes) -> None:
    assert "line 2: " in complaint(write(tmp_path, LINE + wrong + b"\n"))


def test_a_packed_file_that_is_truncated_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(LINE.replace(b"a-1", b"a-%d" % (i * 7919)) for i in range(5000)))
    for file in (write(tmp_path, whole[: len(whole) // 2]), write(tmp_path, whole[:-4])):
        assert "truncated or damaged after line" in complaint(file)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    assert str(tmp_path) in complaint(write(tmp_path, bytes(damaged)))


def test_a_system_without_an_output_is_named(tmp_path: Path) -> None:
    text = complaint(write(tmp_path, LINE), "m", "gone")
    assert text.endswith("prompt 1 (a-1): no output of gone; it has: m, n")
