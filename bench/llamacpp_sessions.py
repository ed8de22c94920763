"""Measures the llama.cpp session, which sends token ids into kept slots.

    python -m bench.llamacpp_sessions                       smollm2-135m-instruct, up to 256-token answers
    python -m bench.llamacpp_sessions --drafts              with n-gram speculation, against without
    python -m bench.llamacpp_sessions --batch 256           more prefill in one pass

Columns as in `bench.sessions`, but `cpu s` includes the time of llama.cpp: on a busy machine compare speeds
by it. A model may end an answer early.
"""

import asyncio
import os
import time
from pathlib import Path

from bench.arguments import arguments, one_or_more
from bench.sessions import POLICIES, measure, mixture, run_cases
from stairstream.backends.llamacpp import LlamaCpp, LlamaCppBackend
from stairstream.backends.llamacpp.backend import DEFAULT_BATCH_TOKENS
from stairstream.backends.models import find_model
from stairstream.core.policy import PRESETS

PAIRS = 3


async def compare_drafts(model: str, tokens: int) -> None:
    """Prints the speed of the whole answer with speculation over that without; the two take turns."""
    for name, policy in (("wait", PRESETS["wait"]), ("(16, 2)", POLICIES["(16, 2)"])):
        ratios = []
        for _ in range(PAIRS):
            speeds = []
            for drafts_ngrams in (False, True):
                llama = LlamaCpp(find_model(model), drafts_ngrams=drafts_ngrams)
                row = await measure(mixture(policy, "grouped", tokens), LlamaCppBackend(llama, model))
                speeds.append(row.summary.agents[-1].usage.completion_tokens / row.summary.total_s)
                await llama.aclose()
            ratios.append(speeds[1] / speeds[0])
        print(f"{name}: with speculation {', '.join(f'{ratio:.2f}' for ratio in ratios)} of the speed without")


def count_cpu_s() -> float:
    """Processor time of this process and of those that it has started (on Linux)."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[1]) == os.getpid():
            ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=one_or_more, default=256)
    parser.add_argument("--batch", type=one_or_more, default=DEFAULT_BATCH_TOKENS)
    parser.add_argument("--drafts", action="store_true")
    args = parser.parse_args()
    if args.drafts:
        await compare_drafts(args.model, args.tokens)
        return
    llama = LlamaCpp(find_model(args.model), batch_tokens=args.batch)
    await llama.start()
    await run_cases(
        LlamaCppBackend(llama, args.model), ("rounds", "grouped", "quoted"), args.tokens, count_cpu_s=count_cpu_s
    )
    await llama.aclose()


if __name__ == "__main__":
    asyncio.run(main())
