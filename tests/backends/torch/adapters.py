"""Adapters as peft writes them, with random weights."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

NAME = "base_model.model.model.layers.1.self_attn.q_proj"


def write_adapter(
    folder: Path,
    name: str = NAME,
    wide: int = 32,
    high: int = 32,
    dtype: Any = torch.float32,
    rank: int = 2,
    **keys: Any,
) -> tuple[Any, Any]:
    """An adapter for a weight of [high, wide]; returns its lower and its upper matrix."""
    torch.manual_seed(0)
    down, up = torch.randn(rank, wide).to(dtype), torch.randn(high, rank).to(dtype)
    described = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": [name.rpartition(".")[2]],
        "modules_to_save": None,
        **keys,
    }
    (folder / "adapter_config.json").write_text(json.dumps(described))
    weights = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    save_file(weights, folder / "adapter_model.safetensors")
    return down, up
