"""An adapter on llama.cpp: it adds to the model what it adds on torch."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

from stairstream.backends.base import Backend  # noqa: E402
from stairstream.backends.in_process.networks import read_network  # noqa: E402
from stairstream.backends.llamacpp import LlamaCpp, LlamaCppBackend  # noqa: E402
from stairstream.backends.llamacpp.adapter import write_adapter as write_gguf_adapter  # noqa: E402
from stairstream.backends.torch.adapter import add_adapter  # noqa: E402
from stairstream.backends.torch.backend import TorchBackend, TorchModel  # noqa: E402
from stairstream.core.errors import ConfigError, ModelUnusable  # noqa: E402
from stairstream.core.graph import Agent, Sampling  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import Delta  # noqa: E402
from stairstream.train.export import export_gguf  # noqa: E402
from tests.backends.local_model import llamacpp_model  # noqa: E402
from tests.backends.torch.adapters import NAME, write_adapter  # noqa: E402
from tests.backends.torch.gguf_files import write_gguf  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402


def weights_of(file: Path) -> dict[str, Any]:
    return {tensor.name: torch.tensor(tensor.data.copy()).float() for tensor in gguf.GGUFReader(file).tensors}


@pytest.mark.parametrize(
    ("weight", "sizes", "keys"),
    [
        ("self_attn.q_proj", (32, 32), {}),
        ("self_attn.k_proj", (16, 32), {"use_rslora": True}),
        ("mlp.down_proj", (32, 64), {"dtype": torch.bfloat16}),
        ("mlp.up_proj", (64, 32), {"dtype": torch.float16}),
    ],
)
def test_what_it_adds_is_in_the_order_of_the_file(
    tmp_path: Path, weight: str, sizes: tuple[int, int], keys: dict[str, Any]
) -> None:
    network, other = make_network(1), make_network(1)
    write_gguf(tmp_path / "like.gguf", network)
    write_adapter(tmp_path, f"base_model.model.model.layers.1.{weight}", high=sizes[0], wide=sizes[1], **keys)
    add_adapter(other, tmp_path)
    for name, one in (("base", network), ("sum", other)):
        export_gguf(tmp_path / "like.gguf", one.state_dict(), tmp_path / f"{name}.gguf")
    file = write_gguf_adapter(tmp_path, tmp_path / "base.gguf", tmp_path)
    base, whole, lora = (weights_of(tmp_path / name) for name in ("base.gguf", "sum.gguf", file.name))
    alpha = gguf.GGUFReader(file).fields["adapter.lora.alpha"].contents()
    changed = {name for name in base if not torch.equal(base[name], whole[name])}
    assert {f"{name}.{part}" for name in changed for part in ("lora_a", "lora_b")} == set(lora)
    (name,) = changed
    more = alpha / 2 * lora[f"{name}.lora_b"] @ lora[f"{name}.lora_a"]
    torch.testing.assert_close(base[name] + more, whole[name], atol=2e-2, rtol=2e-3)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    network = make_network(1)
    write_gguf(tmp_path / "base.gguf", network)
    write_adapter(tmp_path, wide=16)
    with pytest.raises(ConfigError, match="is of another model"):
        write_gguf_adapter(tmp_path, tmp_path / "base.gguf", tmp_path)
    write_adapter(tmp_path, NAME, dtype=torch.float64)
    with pytest.raises(ConfigError, match="has weights of type F64"):
        write_gguf_adapter(tmp_path, tmp_path / "base.gguf", tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="can't be read"):
        write_gguf_adapter(tmp_path, tmp_path / "base.gguf", tmp_path)
    write_gguf(tmp_path / "gpt.gguf", network, "gpt2")
    with pytest.raises(ModelUnusable, match="architecture gpt2"):
        write_gguf_adapter(tmp_path, tmp_path / "gpt.gguf", tmp_path)


def test_a_folder_without_an_adapter_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    write_gguf(tmp_path / "base.gguf", make_network(1))
    with pytest.raises(ConfigError, match=r"adapter: there is no adapter_config.json in"):
        LlamaCpp(tmp_path / "base.gguf", adapter=tmp_path)
    with pytest.raises(ConfigError, match=r"adapter: there is no adapter_config.json in"):
        LlamaCpp(tmp_path / "base.gguf", adapter=tmp_path / "nowhere")
    (tmp_path / "adapter.gguf").write_bytes(b"no adapter")
    with pytest.raises(ModelUnusable, match=r"adapter.gguf is not a GGUF file"):
        LlamaCpp(tmp_path / "base.gguf", adapter=tmp_path / "adapter.gguf")


@pytest.mark.slow
def test_the_real_model_says_with_it_what_it_says_on_torch(tmp_path: Path) -> None:
    path = tmp_path / "float16.gguf"  # not quantized: there the two of them differ by what llama.cpp rounds
    network, _ = read_network(llamacpp_model(), "float32")
    export_gguf(llamacpp_model(), network.state_dict(), path)
    folder = tmp_path / "adapter"
    folder.mkdir()
    write_adapter(folder, "base_model.model.model.layers.3.self_attn.q_proj", high=576, wide=576, lora_alpha=0.2)

    async def write(backend: Backend) -> str:
        agent = Agent(name="a", model="m", sampling=Sampling(temperature=0))
        session = await backend.open(agent, question("Which color has the sky? Answer in one sentence."))
        text = "".join([item.text async for item in session.write(12) if isinstance(item, Delta)])
        await session.aclose()
        return text

    async def main() -> list[str]:
        texts = []
        for adapter in (None, folder):
            async with aclosing(LlamaCpp(path, slots=1, context_tokens=256, adapter=adapter)) as llama:
                texts.append(await write(LlamaCppBackend(llama, "smollm2")))
            async with aclosing(TorchModel(path, adapter=adapter)) as model:
                texts.append(await write(TorchBackend(model, "smollm2")))
        return texts

    plain, plain_torch, adapted, adapted_torch = asyncio.run(main())
    assert plain == plain_torch and adapted == adapted_torch and adapted != plain
