"""Names of local models: they change with the content."""

from pathlib import Path

from stairstream.config.backends.torch import TorchKeys
from stairstream.config.models import ModelConfig
from stairstream.eval.identity import identify_models, name_model


def test_another_content_of_the_same_size_is_another_model(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"one")
    before = name_model(file)
    file.write_bytes(b"two")
    assert before.startswith("m.gguf-") and before != name_model(file)


def test_a_folder_is_its_weights_and_settings_whatever_its_path(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "m", tmp_path / "b" / "m"
    for folder in (one, other):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text("{}")
    (other / "notes.txt").touch()
    assert name_model(one) == name_model(other)
    (other / "model.safetensors").write_bytes(b"trained")
    assert name_model(one) != name_model(other)


def test_an_adapter_that_was_trained_again_is_another_model(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    keys = TorchKeys(model=str(tmp_path), adapter=str(tmp_path / "adapter"))
    models = {"m": ModelConfig(name="m", keys=keys)}
    seen = []
    for content in (b"one", b"two", b"one"):
        weights.write_bytes(content)
        seen.append(identify_models(models, ["m"]))
    assert seen[0] == seen[2] != seen[1]
