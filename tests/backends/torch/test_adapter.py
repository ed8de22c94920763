"""An adapter beside a model: its weights are the base's and what it learned."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.adapter import add_adapter  # noqa: E402
from stairstream.backends.torch.backend import TorchModel  # noqa: E402
from stairstream.core.errors import ConfigError  # noqa: E402
from tests.backends.torch.adapters import write_adapter  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402


def test_weights_are_the_base_and_what_was_learned(tmp_path: Path) -> None:
    network, base = make_network(1), make_network(1)
    down, up = write_adapter(tmp_path)
    add_adapter(network, tmp_path)
    before = dict(base.named_parameters())
    for name, weight in network.named_parameters():
        more = 4 * up @ down if name == "model.layers.1.self_attn.q_proj.weight" else 0
        torch.testing.assert_close(weight, before[name] + more)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"name": "base_model.model.model.layers.9.self_attn.q_proj"}, "is of another model"),
        ({"wide": 16}, "is of another model"),
        ({"r": 3}, "are not of its r, 3"),
        ({"use_dora": True}, "is not a plain LoRA"),
        ({"init_lora_weights": "pissa"}, "is not a plain LoRA"),
        ({"peft_type": "IA3"}, "is not a plain LoRA"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, keys: dict[str, Any], problem: str) -> None:
    write_adapter(tmp_path, **keys)
    with pytest.raises(ConfigError, match=problem):
        add_adapter(make_network(1), tmp_path)


def test_a_folder_without_an_adapter_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter: there is no adapter_config.json in"):
        TorchModel(tmp_path, adapter=tmp_path)
