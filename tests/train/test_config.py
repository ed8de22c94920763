"""Configurations of training runs: what is wrong in them is one line that names the key."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from stairstream.core.errors import ConfigError
from stairstream.train.config import Span, load_train_config, read_train_config
from stairstream.train.drawing import draw_reading
from tests.pages import DOCS, ROOT, blocks_of

STAGE = {"name": "one", "steps": 5}


def read(stage: dict[str, Any] | None = None, **keys: Any) -> Any:
    return read_train_config({"model": "m", "output": "o", "stages": [stage or STAGE], **keys}, "t.yaml")


@pytest.mark.parametrize(
    ("stage", "keys", "problem"),
    [
        ({}, {"modle": "x"}, "t.yaml: modle: unknown key; did you mean 'model'?"),
        ({}, {"stages": []}, "t.yaml: stages: needs at least one stage"),
        ({"grwoth": 2}, {}, "t.yaml: stages[0].grwoth: unknown key; did you mean 'growth'?"),
        ({"layouts": {"round": 1}}, {}, "t.yaml: stages[0].layouts.round: unknown key; did you mean 'rounds'?"),
        ({"layouts": "quoted"}, {}, "layouts.quoted: is not trained by itself; train grouped"),
        ({"epochs": 2}, {}, "stages[0].steps: or epochs must be given, one of the two"),
        ({"first_chunk": [64, 8]}, {}, "must go from a number to a larger one, not from 64 to 8"),
        ({"first_chunk": "inf"}, {}, "stages[0].first_chunk: must be whole numbers of at least 1; for samples that"),
        ({"lr": "fast"}, {}, "stages[0].lr: must be a number above 0, not 'fast'"),
        ({"batch_tokens": 5000}, {}, "batch_tokens: must be a multiple of sequence_tokens (4096), not 5000"),
        ({}, {"parallel": {"dp": 3}}, "batch_tokens: makes 4 rows of 4096 tokens, which 3 processes (parallel.dp)"),
        ({}, {"parallel": {"interleave": 2}}, "parallel.interleave: needs pipeline stages: give pp at least 2"),
        ({}, {"parallel": {"dp": 3, "replicate": 2}}, "parallel.replicate: must divide dp: 2 copies can't be split"),
        (
            {"batch_tokens": 3 * 4096},
            {"parallel": {"pp": 2, "interleave": 2}},
            "stages[0].batch_tokens: makes 3 rows for each process of parallel.dp; with parallel.interleave their",
        ),
        ({}, {"offload": "parameters", "parallel": {"pp": 2}}, "t.yaml: offload: pipeline stages need all their"),
        ({}, {"offload": "parameters", "optimizer": "adamw8bit"}, "t.yaml: offload: works with adamw"),
        ({}, {"memory": "lots"}, "t.yaml: memory: must be a number of GiB, auto, none or full, not 'lots'"),
        ({}, {"memory": 0}, "t.yaml: memory: must be a number of GiB above 0, not 0"),
        ({}, {"lora": {"base": "int4"}}, "t.yaml: lora.base: 'int4' is not a valid choice; did you mean 'int8'?"),
        ({"wait": 0.7, "alone": 0.7}, {}, "stages[0].wait: and alone must be shares of the same whole"),
        ({}, {"proposers": ["a", "b", "a"]}, "t.yaml: proposers[2]: 'a' is there twice"),
        ({}, {"proposers": ["a", "b"], "reference": "b"}, "t.yaml: proposers[1]: 'b' is the reference, which is"),
        ({}, {"compile": True, "parallel": {"tp": 2}}, "compile: does not work with layers that tp splits"),
    ],
)
def test_a_mistake_is_named(stage: dict[str, Any], keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read({**STAGE, **stage}, **keys)
    assert problem in str(caught.value)


def test_stages_have_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"stages\[1\].name: 'one' is there twice"):
        read(stages=[STAGE, STAGE])


def test_rates_may_be_written_as_people_do(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("model: m\noutput: o\nstages: [{name: a, steps: 1, lr: 2e-5}]\n")
    assert load_train_config(file).stages[0].lr == 2e-5


def test_readings_stay_in_their_ranges() -> None:
    ranges = {"first_chunk": [8, 64], "growth": [1, 2], "lead": "inf", "slope": 0.5, "wait": 0.2, "alone": 0.1}
    stage = read({**STAGE, **ranges, "layouts": {"rounds": 3, "grouped": 1}}).stages[0]
    assert stage.lead == Span(math.inf, math.inf)
    dice = random.Random(1)
    drawn = [draw_reading(stage, dice) for _ in range(2000)]
    stairs = [one for one in drawn if one.policy is not None and one.policy.first_chunk < math.inf]
    assert len(stairs) == pytest.approx(1400, abs=80)
    assert sum(one.policy is None for one in drawn) == pytest.approx(200, abs=50)
    for one in stairs:
        assert one.policy is not None
        assert 8 <= one.policy.first_chunk <= 64
        assert 1 <= one.policy.growth <= 2
        assert (one.policy.lead, one.policy.slope) == (math.inf, 0.5)
    assert sum(one.layout == "rounds" for one in stairs) == pytest.approx(1050, abs=80)


def test_documented_configurations_are_taken() -> None:
    block, *_ = blocks_of(DOCS / "training.md", "yaml")  # the others are parts
    shown = read_train_config(yaml.safe_load(block.text), block.name)
    assert [stage.name for stage in shown.stages] == ["full", "staircase"]
    assert load_train_config(ROOT / "examples/train_aggregator.yaml").stages
