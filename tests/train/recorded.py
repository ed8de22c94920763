"""Recorded answers of a tiny world, and configurations that read them."""

import json
from pathlib import Path
from typing import Any

from stairstream.train.config import TrainConfig, read_train_config

_WORDS = ("the", "sea", "is", "deep", "and", "salty", "red", "rose", "not")


def write_data(folder: Path, count: int = 12) -> Path:
    """Prompts p0, p1, ... with three answers each, of different lengths."""
    file = folder / "data.jsonl"
    rows = [
        {
            "id": f"p{i}",
            "instruction": f"Tell me {i} things.",
            "outputs": {name: _say(i + k, 6 + 3 * k + i % 4) for k, name in enumerate(("a", "b", "mixed"))},
        }
        for i in range(count)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _say(first: int, count: int) -> str:
    return " ".join(_WORDS[(first + number * 2) % len(_WORDS)] for number in range(count))


def make_config(folder: Path, *stages: dict[str, Any], **keys: Any) -> TrainConfig:
    """A configuration on that data; stages have what is not given."""
    usual = {"name": "stairs", "epochs": 1, "first_chunk": [2, 6], "lr": 1e-2, "warmup_steps": 1}
    sizes = {"sequence_tokens": 1024, "batch_tokens": 2048}
    raw = {
        "model": "tiny",
        "data": str(folder / "data.jsonl"),
        "output": str(folder / "out"),
        "proposers": ["a", "b"],
        "reference": "mixed",
        "held_out": 2,
        "precision": "float32",
        "stages": [{**usual, **sizes, **stage} for stage in stages or ({},)],
        **keys,
    }
    return read_train_config(raw, "train.yaml")
