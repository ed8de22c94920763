"""What is foretold of a stage is what comes."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.data import Cursor, Stream, split_prompts  # noqa: E402
from stairstream.train.outlook import look_ahead  # noqa: E402
from tests.backends.torch.tiny import make_tokens  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import run_alone  # noqa: E402

TOKENS = make_tokens()


def open_stream(folder: Path, count: int, **stage: Any) -> Stream:
    write_data(folder, count)
    config = make_config(folder, stage)
    return Stream(config, config.stages[0], split_prompts(config), TOKENS)


@pytest.mark.slow
def test_steps_of_epochs_are_estimated_from_the_first_batches(tmp_path: Path) -> None:
    stream = open_stream(tmp_path, 42, epochs=2)
    seen, batches = look_ahead(stream, stream._stage), list(stream.batches(Cursor()))
    assert not seen.is_exact
    assert seen.steps == pytest.approx(len(batches), rel=0.25)
    assert seen.batches == tuple(batches[:2])
    assert seen.most_tokens == max(row.num_tokens for batch in batches[:2] for row in batch.rows) <= 1024
    assert seen.tokens == (batches[0].num_tokens + batches[1].num_tokens) / 2
    assert 0 < seen.trained < seen.tokens


def test_steps_are_exact_where_they_are_given_or_few(tmp_path: Path) -> None:
    stream = open_stream(tmp_path, 42, steps=70, epochs=None)
    assert (look_ahead(stream, stream._stage).steps, look_ahead(stream, stream._stage).is_exact) == (70, True)
    few = open_stream(tmp_path, 5, batch_tokens=4096)
    assert (look_ahead(few, few._stage).steps, look_ahead(few, few._stage).is_exact) == (1, True)


@pytest.mark.slow
def test_a_run_whose_memory_cant_hold_ends_before_its_first_step(tmp_path: Path) -> None:
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"memory: stage 'stairs' needs at least 0.\d+ GiB in each process"):
        run_alone(make_config(tmp_path, memory=0.001))
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
