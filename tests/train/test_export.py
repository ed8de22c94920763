"""Exported models: what others load is what was trained."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

from transformers import AutoModelForCausalLM  # noqa: E402

from stairstream.core.errors import ConfigError, ModelUnusable  # noqa: E402
from stairstream.train.export import export_folder, export_gguf  # noqa: E402
from tests.backends.torch.gguf_files import write_gguf  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.tiny import make_start, state_of  # noqa: E402


def test_a_gguf_file_has_the_weights_and_all_else_of_the_other(tmp_path: Path) -> None:
    network = make_network(3)
    write_gguf(tmp_path / "like.gguf", network)
    export_gguf(tmp_path / "like.gguf", network.state_dict(), tmp_path / "made.gguf")
    found = AutoModelForCausalLM.from_pretrained(str(tmp_path), gguf_file="made.gguf", dtype=torch.float32)
    weights, others = state_of(network), state_of(found)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=1e-3, rtol=1e-3)
    fields = gguf.GGUFReader(tmp_path / "made.gguf").fields
    assert fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "ü"]
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_F16
    assert not (tmp_path / "made.gguf.part").exists()


def test_weights_of_another_model_are_not_written(tmp_path: Path) -> None:
    network, other = make_network(3), make_network(3, vocab_size=200)
    write_gguf(tmp_path / "like.gguf", network)
    with pytest.raises(ConfigError, match=r"is of another model: token_embd.weight is not there, or of another shape"):
        export_gguf(tmp_path / "like.gguf", other.state_dict(), tmp_path / "made.gguf")
    write_gguf(tmp_path / "gpt.gguf", network, "gpt2")
    with pytest.raises(ModelUnusable, match="is of the architecture gpt2, whose weights can't be written here"):
        export_gguf(tmp_path / "gpt.gguf", network.state_dict(), tmp_path / "made.gguf")


def test_tied_weights_are_in_a_folder_once(tmp_path: Path) -> None:
    start = make_start()
    network = make_network(3, vocab_size=len(start.tokens), tie_word_embeddings=True)
    export_folder(network, start.tokenizer, network.state_dict(), tmp_path / "model", "bfloat16")
    from safetensors.torch import load_file

    assert "lm_head.weight" not in load_file(tmp_path / "model" / "model.safetensors")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert found.dtype == torch.bfloat16
    weights, others = state_of(network), state_of(found)
    assert all(torch.equal(others[name], weight.to(torch.bfloat16)) for name, weight in weights.items())
