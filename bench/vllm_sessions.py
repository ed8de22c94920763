"""What a session on vLLM computes, and how fast it is: three proposers and an aggregator on one engine.

python -m bench.vllm_sessions                  smollm2-135m-instruct in bfloat16, 256-token answers
python -m bench.vllm_sessions --model DIR --tokens 128 --quantum 1

Columns as in `bench.sessions`; answers always have all their tokens, and no run finds anything of an earlier one in the
cache.
"""

import asyncio
import time

from bench.endpoint import arguments
from bench.sessions import run_cases
from stairstream.backends.vllm.backend import DEFAULT_QUANTUM_TOKENS, Vllm, VllmBackend, find_vllm_model


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--quantum", type=int, default=DEFAULT_QUANTUM_TOKENS)
    args = parser.parse_args()

    start = time.monotonic()
    vllm = Vllm(
        find_vllm_model(args.model), sessions=8, context_tokens=4096, quantum_tokens=args.quantum, ignores_end=True
    )
    await vllm.start()
    print(f"{args.model}, turns of {args.quantum} tokens, loaded in {time.monotonic() - start:.1f} s\n")
    await run_cases(VllmBackend(vllm, args.model), ("rounds", "grouped"), args.tokens, between=vllm.empty_cache)
    await vllm.aclose()


if __name__ == "__main__":
    asyncio.run(main())
