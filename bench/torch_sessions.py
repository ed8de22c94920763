"""Measures the torch session: one model, one batch for all four agents.

    python -m bench.torch_sessions                          smollm2-135m-instruct in bfloat16, 256-token answers
    python -m bench.torch_sessions --model DIR --dtype float32 --tokens 128

Columns as in `bench.sessions`; answers always have all their tokens.
"""

import asyncio
import time

from bench.arguments import arguments, one_or_more
from bench.sessions import run_cases
from stairstream.backends.models import find_weights
from stairstream.backends.torch.backend import TorchBackend, TorchModel


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--tokens", type=one_or_more, default=256)
    parser.add_argument("--threads", type=one_or_more, default=1)
    args = parser.parse_args()
    from stairstream.backends.torch.load import load  # torch is slow to import

    start = time.monotonic()
    loaded = load(find_weights(args.model), args.dtype)
    loaded.tokens.end_ids = frozenset()  # answers have all their tokens
    model = TorchModel(find_weights(args.model), threads=args.threads)
    model.use(loaded)
    print(f"{args.model}, {args.dtype}, {args.threads} thread(s), loaded in {time.monotonic() - start:.1f} s\n")
    await run_cases(TorchBackend(model, args.model), ("insert", "rounds", "grouped"), args.tokens)
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(main())
