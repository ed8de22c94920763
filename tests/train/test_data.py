"""The stream of packed rows: what is held out, what is in a row, and that it goes on from anywhere."""

from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.eval.recorded import read_prompts  # noqa: E402
from stairstream.train.config import TrainConfig  # noqa: E402
from stairstream.train.data import EMPTY_ROW, Cursor, Stream, split_prompts, write_held_out  # noqa: E402
from tests.backends.torch.tiny import make_tokens  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402

TOKENS = make_tokens()


def open_stream(config: TrainConfig) -> Stream:
    return Stream(config, config.stages[0], split_prompts(config), TOKENS)


def test_the_same_prompts_are_held_out_when_others_are_added(tmp_path: Path) -> None:
    write_data(tmp_path, 12)
    few = split_prompts(make_config(tmp_path))
    assert (len(few.trained), len(few.held_out)) == (10, 2)
    write_data(tmp_path, 13)
    more = split_prompts(make_config(tmp_path, held_out=3))
    assert len(few.held_out & more.held_out) >= 2


def test_what_is_held_out_is_there_for_evaluations(tmp_path: Path) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path)
    split = split_prompts(config)
    config.folder.mkdir()
    rows = read_prompts(write_held_out(config, split), ("a", "b", "mixed"))
    assert {row.id for row in rows} == split.held_out


def test_an_epoch_has_every_trained_prompt_once_and_no_other(tmp_path: Path) -> None:
    write_data(tmp_path)
    config = make_config(tmp_path, shuffle=4)
    drawn = [one.prompt_id for one in open_stream(config).samples(Cursor())]
    assert sorted(drawn) == sorted(split_prompts(config).trained)
    assert drawn != sorted(drawn)


def test_readings_differ_from_one_epoch_to_the_next(tmp_path: Path) -> None:
    write_data(tmp_path)
    drawn = list(open_stream(make_config(tmp_path, {"epochs": 2})).samples(Cursor()))
    first, second = ({one.prompt_id: one.reading for one in drawn if one.cursor.epoch == epoch} for epoch in (0, 1))
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_a_row_is_no_longer_than_it_may_be_and_loses_nothing(tmp_path: Path) -> None:
    write_data(tmp_path)
    stream = open_stream(make_config(tmp_path))
    batches = list(stream.batches(Cursor()))
    rows = [row for batch in batches for row in batch.rows]
    assert all(row.num_tokens <= 1024 for row in rows)
    assert all(len(batch.rows) == 2 for batch in batches)
    samples = [sample for row in rows if row is not EMPTY_ROW for sample in row.samples]
    assert samples == [one.sample for one in stream.samples(Cursor())]
    assert any(len(row.samples) > 1 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["rounds", "grouped", "insert"])
def test_the_stream_continues_after_any_batch(tmp_path: Path, layout: str) -> None:
    write_data(tmp_path, 5)
    config = make_config(tmp_path, {"layouts": layout, "updates": "all", "steps": 99, "epochs": None}, shuffle=2)
    whole = list(islice(open_stream(config).batches(Cursor()), 5))
    assert whole[-1].after.epoch >= 1
    for number in (1, 3):
        later = list(islice(open_stream(config).batches(whole[number - 1].after), 5 - number))
        assert later == whole[number:]


def test_a_stage_may_cut_texts_shorter(tmp_path: Path) -> None:
    write_data(tmp_path)
    whole, short = (
        list(open_stream(make_config(tmp_path, {"layouts": "rounds", **keys})).samples(Cursor()))
        for keys in ({}, {"cut_tokens": 9})
    )
    assert max(len(one.sample.learned) for one in short) == 9  # what was cut does not learn to end
    assert max(len(one.sample.learned) for one in whole) > 10


def test_progress_is_by_steps_or_by_prompts(tmp_path: Path) -> None:
    write_data(tmp_path)
    by_epochs, by_steps = (
        open_stream(make_config(tmp_path, stage)) for stage in ({"epochs": 2}, {"epochs": None, "steps": 8})
    )
    assert by_epochs.progress(Cursor(epoch=1, prompt=5), 3) == 0.75
    assert by_steps.progress(Cursor(epoch=7), 2) == 0.25


def test_data_without_what_is_wanted_is_one_clear_line(tmp_path: Path) -> None:
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"data.jsonl, prompt 1 \(p0\): no output of c; it has: a, b, mixed"):
        split_prompts(make_config(tmp_path, proposers=["a", "c"]))
    with pytest.raises(ConfigError, match="has 12 prompts and 12 are held out; nothing is left"):
        split_prompts(make_config(tmp_path, held_out=12))


@pytest.mark.parametrize("length", [{"epochs": None, "steps": 3}, {"epochs": 2}, {"epochs": 0.2}])
def test_rows_too_short_for_every_sample_are_one_clear_line(tmp_path: Path, length: dict[str, float | None]) -> None:
    write_data(tmp_path)
    stream = open_stream(make_config(tmp_path, {"sequence_tokens": 4, "batch_tokens": 8, **length}))
    with pytest.raises(ConfigError, match=r"stage 'stairs': no sample has a word to learn within .* \(4\)"):
        next(stream.batches(Cursor()))
