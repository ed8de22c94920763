"""Measures what a session on vLLM computes and how fast it is: three proposers and an aggregator on one engine.

python -m bench.vllm_sessions                  smollm2-135m-instruct in bfloat16, 256-token answers
python -m bench.vllm_sessions --model DIR --tokens 128 --quantum 1

Columns as in `bench.sessions`, but `cpu s` is the processor time of vLLM's worker (on Linux): the run's time if
nothing else runs. Answers always have all their tokens, and no run finds text of an earlier one in the cache.
"""

import asyncio
import os
import time
from pathlib import Path

from bench.arguments import arguments, one_or_more
from bench.sessions import run_cases
from stairstream.backends.models import find_weights
from stairstream.backends.vllm.backend import DEFAULT_QUANTUM_TOKENS, Vllm, VllmBackend


def count_cpu_s() -> float:
    """Processor time of vLLM's worker processes."""
    times = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # it has ended meanwhile
        if name.startswith("VLLM::Worker"):
            times += sum(map(int, rest.split()[11:13]))
    return times / os.sysconf("SC_CLK_TCK")


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=one_or_more, default=256)
    parser.add_argument("--quantum", type=one_or_more, default=DEFAULT_QUANTUM_TOKENS)
    args = parser.parse_args()

    start = time.monotonic()
    vllm = Vllm(
        find_weights(args.model), sessions=8, context_tokens=4096, quantum_tokens=args.quantum, ignores_end=True
    )
    await vllm.start()
    print(f"{args.model}, turns of {args.quantum} tokens, loaded in {time.monotonic() - start:.1f} s\n")
    backend = VllmBackend(vllm, args.model)
    await run_cases(backend, ("rounds", "grouped"), args.tokens, vllm.empty_cache, count_cpu_s)
    await vllm.aclose()


if __name__ == "__main__":
    asyncio.run(main())
