"""Exported models: what others load is what was trained."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

from transformers import AutoModelForCausalLM  # noqa: E402

from stairstream.core.errors import ConfigError, ModelUnusable  # noqa: E402
from stairstream.train.export import export_folder, export_gguf  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.tiny import make_start, state_of  # noqa: E402

_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def write_gguf(file: Path, network: Any, arch: str = "llama") -> None:
    """A file of that network's shapes, with nothing in them."""
    writer = gguf.GGUFWriter(file, arch)
    config = network.config
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "ü"])
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for number in range(config.num_hidden_layers):
        names |= {f"blk.{number}.{theirs}": f"model.layers.{number}.{ours}" for theirs, ours in _LAYER.items()}
    weights = network.state_dict()
    for theirs, ours in names.items():
        writer.add_tensor(f"{theirs}.weight", torch.zeros_like(weights[f"{ours}.weight"]).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_has_the_weights_and_all_else_of_the_other(tmp_path: Path) -> None:
    network = make_network(3)
    write_gguf(tmp_path / "like.gguf", network)
    export_gguf(tmp_path / "like.gguf", network.config, network.state_dict(), tmp_path / "made.gguf")
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
        export_gguf(tmp_path / "like.gguf", other.config, other.state_dict(), tmp_path / "made.gguf")
    write_gguf(tmp_path / "gpt.gguf", network, "gpt2")
    with pytest.raises(ModelUnusable, match="is of the architecture gpt2, whose weights can't be written here"):
        export_gguf(tmp_path / "gpt.gguf", network.config, network.state_dict(), tmp_path / "made.gguf")


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
