"""Measures what an adapter costs on vLLM: a random one beside every linear weight of a model's layers, and none.

python -m bench.vllm_adapter                  smollm2-135m-instruct in bfloat16, rank 16
python -m bench.vllm_adapter --model DIR --rank 8

Processor time of vLLM's worker (on Linux) and time by the clock, for a prompt alone and for answers of 96 tokens.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from bench.arguments import arguments, one_or_more
from bench.vllm_sessions import count_cpu_s
from stairstream.backends.in_process.networks import make_empty, read_config
from stairstream.backends.models import find_weights
from stairstream.backends.vllm.backend import Vllm
from stairstream.core.graph import Sampling

PROMPT_TOKENS, ANSWER_TOKENS = 1600, 96
SESSIONS = 4


def make_adapter(model: Path, rank: int, folder: Path) -> Path:
    """A random adapter beside all linear weights of the layers."""
    weights = {}
    for name, weight in make_empty(read_config(model)).named_parameters():
        if ".layers." in name and weight.dim() == 2:
            path = "base_model.model." + name.removesuffix(".weight")
            weights[f"{path}.lora_A.weight"] = torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5
            weights[f"{path}.lora_B.weight"] = torch.randn(weight.shape[0], rank) / 20
    targets = sorted({name.split(".")[-3] for name in weights})
    save_file(weights, folder / "adapter_model.safetensors")
    described = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    return folder


async def measure(model: Path, adapter: Path | None) -> None:
    """Print a row of the table for each case, after one that warms up."""
    vllm = Vllm(model, sessions=8, context_tokens=2048, ignores_end=True, adapter=adapter)
    await vllm.start()
    engine = vllm._engine
    assert engine is not None

    async def run(ids: Iterable[int], max_tokens: int) -> None:
        request = engine.begin(list(ids), Sampling(temperature=0), max_tokens, is_resumable=False)
        while (output := await request.next()) is not None and output.reason is None:
            pass
        await request.aclose()

    cases = {
        f"a prompt of {PROMPT_TOKENS}": [(range(100, 100 + PROMPT_TOKENS), 1)],
        f"an answer of {ANSWER_TOKENS}": [(range(10, 20), ANSWER_TOKENS)],
        f"{SESSIONS} answers at once": [(range(20 + n, 30 + n), ANSWER_TOKENS) for n in range(SESSIONS)],
    }
    await run(range(5, 40), 8)
    for name, requests in cases.items():
        cpu_s, start_s = count_cpu_s(), time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for ids, max_tokens in requests:
                tasks.create_task(run(ids, max_tokens))
        used_s, took_s = count_cpu_s() - cpu_s, time.monotonic() - start_s
        print(f"| {'no' if adapter is None else 'yes'} | {name} | {used_s:.1f} | {took_s:.1f} |", flush=True)
    await vllm.aclose()


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rank", type=one_or_more, default=16)
    args = parser.parse_args()

    model = find_weights(args.model)
    print("| adapter | what | cpu s | time s |\n|---|---|---|---|")
    await measure(model, None)
    with TemporaryDirectory() as room:
        await measure(model, make_adapter(model, args.rank, Path(room)))


if __name__ == "__main__":
    asyncio.run(main())
