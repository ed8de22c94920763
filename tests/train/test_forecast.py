"""What a dry run says of a run, and that it is near what the run then takes."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

import yaml  # noqa: E402

from stairstream.cli.main import main  # noqa: E402
from stairstream.cli.train import say_forecast  # noqa: E402
from stairstream.core.errors import ConfigError, ModelUnusable  # noqa: E402
from stairstream.train import forecast as forecasts  # noqa: E402
from stairstream.train.data import Batch, Cursor, Row, Stream, split_prompts  # noqa: E402
from stairstream.train.export import export_folder  # noqa: E402
from stairstream.train.forecast import Forecast, Needs, Parameters, foretell  # noqa: E402
from stairstream.train.outlook import Outlook, look_ahead  # noqa: E402
from stairstream.train.sequences import Sample  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import make_start  # noqa: E402

LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32


def open_tiny(folder: Path, **keys: Any) -> tuple[Any, Path, list[Outlook]]:
    """A configuration on a tiny model in a folder, and an outlook of its stages."""
    write_data(folder)
    start = make_start()
    export_folder(start.network, start.tokenizer, start.network.state_dict(), folder / "tiny", "float32")
    config = make_config(folder, {"steps": 5, "epochs": None}, **keys)
    split = split_prompts(config)
    stages = [look_ahead(Stream(config, stage, split, start.tokens), stage) for stage in config.stages]
    return config, folder / "tiny", stages


@pytest.mark.slow
def test_parameters_are_counted_and_passes_measured_without_weights(tmp_path: Path) -> None:
    config, path, outlooks = open_tiny(tmp_path)
    (path / "model.safetensors").unlink()
    found = foretell(config, path, outlooks)
    vocabulary = make_start().network.config.vocab_size
    total = 2 * LAYER + 32 + 2 * 32 * vocabulary
    assert found.parameters == Parameters(total=total, learning=total, per_process=total)
    assert found.needs is not None
    assert 28 * total < found.needs.most_bytes < found.needs.budget_bytes
    assert found.needs.share_again == 0
    assert 0 < found.needs.stage_s[0] < 60


@pytest.mark.slow
def test_processes_share_parameters_and_time(tmp_path: Path) -> None:
    config, path, outlooks = open_tiny(tmp_path, parallel={"dp": 2}, memory="full")
    found = foretell(config, path, outlooks)
    assert found.parameters.per_process == found.parameters.total / 2
    assert found.needs is not None
    assert found.needs.share_again == 1


@pytest.mark.slow
def test_adapters_alone_learn(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    config, path, outlooks = open_tiny(tmp_path, lora={"rank": 2, "targets": ["q_proj"]})
    found = foretell(config, path, outlooks)
    assert found.parameters.learning == 2 * 2 * 2 * 32
    assert found.needs is not None


SEVEN_B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32_000,
    "tie_word_embeddings": False,
}
"""The shape of Llama 2 7B."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_adapters_on_seven_billion_in_bits_fits_into_24_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    monkeypatch.setattr(forecasts, "_MOST_PROBED", 64)
    row = Row(samples=(Sample(ids=(1,) * 4096, is_trained=(False, True) * 2048),))
    monkeypatch.setattr(forecasts, "_measure_speed", lambda *_: 1e12)
    (tmp_path / "config.json").write_text(json.dumps(SEVEN_B))
    config = make_config(tmp_path, memory=24, precision="bfloat16", lora={"rank": 16, "base": "nf4"})
    batch = Batch(rows=(row,), after=Cursor())
    outlook = Outlook(stage=config.stages[0], steps=5, is_exact=True, batches=(batch,))
    forecast = foretell(config, tmp_path, [outlook])
    assert 6.7e9 < forecast.parameters.total < 6.8e9
    assert 39e6 < forecast.parameters.learning < 41e6
    assert forecast.needs is not None
    assert 7 * 2**30 < forecast.needs.most_bytes <= 24 * 2**30


@pytest.mark.slow
def test_a_budget_that_cant_hold_is_refused_here_already(tmp_path: Path) -> None:
    config, path, outlooks = open_tiny(tmp_path, memory=0.001)
    with pytest.raises(ConfigError, match=r"memory: stage 'stairs' needs at least 0.\d+ GiB"):
        foretell(config, path, outlooks)


@pytest.mark.slow
def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    config, path, outlooks = open_tiny(tmp_path)
    (path / "config.json").write_text('{"model_type": "unheard of"}')
    with pytest.raises(ModelUnusable, match="transformers can't load"):
        foretell(config, path, outlooks)


@pytest.mark.slow
def test_a_layer_that_cant_be_measured_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AttributeError("it has no layers")

    config, path, outlooks = open_tiny(tmp_path)
    monkeypatch.setattr(forecasts, "_make_one_layer", refuse)
    found = foretell(config, path, outlooks)
    assert (found.needs, found.why) == (
        None,
        "a layer of the model can't be measured: it has no layers",
    )
    assert say_forecast(config, found, outlooks)[-1] == f"memory, time and energy are not estimated: {found.why}"


@pytest.mark.slow
def test_a_forecast_says_how_it_was_made(tmp_path: Path) -> None:
    config, _, outlooks = open_tiny(tmp_path, parallel={"dp": 2})
    needs = Needs(most_bytes=3 * 2**30, budget_bytes=8 * 2**30, share_again=0.5, stage_s=(7200.0,))
    parameters = Parameters(total=135_000_000, learning=135_000_000, per_process=67_500_000)
    found = Forecast(parameters=parameters, device="CPU with 2 threads", watts=20, needs=needs)
    lines = say_forecast(config, found, outlooks)
    assert lines[:2] == [
        "Plan for 2 processes, each on: CPU with 2 threads",
        "parameters: 135.0 M, of which 135.0 M learn; 67.5 M in each process",
    ]
    assert lines[2].startswith("stage stairs: 5 train steps of ")
    assert lines[2].endswith(" learned, about 2:00:00")
    assert lines[3].startswith(
        "memory: 3.0 of 8.0 GiB in each process at the largest row that was looked at, with 50% of"
    )
    assert lines[4].startswith("time: about 2:00:00, by the speed of one layer's passes, measured now; without")
    assert lines[5].startswith("energy: 0.08 kWh, if each process draws 20 W (")


@pytest.mark.slow
def test_a_dry_run_shows_samples_and_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, path, _ = open_tiny(tmp_path)
    raw = {
        "model": str(path),
        "data": str(tmp_path / "data.jsonl"),
        "output": str(tmp_path / "out"),
        "proposers": ["a", "b"],
        "reference": "mixed",
        "held_out": 2,
        "stages": [{"name": "one", "steps": 3, "sequence_tokens": 1024, "batch_tokens": 2048}],
    }
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(raw))
    assert main(["train", str(tmp_path / "t.yaml"), "--dry-run", "--samples", "1"]) == 0
    text = capsys.readouterr().out
    for word in ("[[", "Plan for 1 process, each on", "stage one: 3 train steps of", "memory: ", "time: ", "energy: "):
        assert word in text
    assert not (tmp_path / "out").exists()
