"""What the torch session computes, and how fast it is: three proposers and an aggregator on one model, in one batch.

python -m bench.torch_sessions                          smollm2-135m-instruct in bfloat16, 256-token answers
python -m bench.torch_sessions --model DIR --dtype float32 --tokens 128

`computed` are prompt tokens of the aggregator that were computed, `distinct` its final context with its answer; answers
always have all their tokens. `of wait` is the speed of the whole answer over that of `wait`.
"""

import argparse
import asyncio
import time

from stairstream.backends.torch.backend import TorchBackend, TorchModel, find_torch_model
from stairstream.core.events import StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, gaps_s, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Layout
from stairstream.engine.run import open_run

ASK = question("Why is the sky blue, and why are sunsets red? Explain it to a curious child.")
PROPOSERS = ("p1", "p2", "p3")
POLICIES = {
    "(16, 1)": Policy(first_chunk=16, growth=1, quorum="all", patience_s=0),
    "(16, 2)": Policy(first_chunk=16, growth=2, quorum="all", patience_s=0),
}
LAYOUTS: tuple[Layout, ...] = ("insert", "rounds", "grouped")


def mixture(policy: Policy, layout: Layout | None, tokens: int) -> Graph:
    """Three samples of a model and the same model to combine them."""
    proposers = [
        Agent(name=name, model="m", sampling=Sampling(max_tokens=tokens, temperature=0.8, top_p=0.95, seed=seed))
        for seed, name in enumerate(PROPOSERS)
    ]
    sampling = Sampling(max_tokens=tokens, temperature=0)
    agg = Agent(name="agg", model="m", reads=PROPOSERS, policy=policy, layout=layout, sampling=sampling)
    return Graph(agents=(*proposers, agg), answer="agg")


async def measure(graph: Graph, backend: TorchBackend) -> tuple[Summary, float, int, int]:
    """One run: its summary, the median pause between words, prompt tokens computed, and distinct ones."""
    async with open_run(graph, ASK, {"m": backend}) as run:
        events = [event async for event in run.events()]
    steps = [event.usage for event in events if isinstance(event, StepEnded) and event.agent == "agg"]
    computed = sum(usage.prompt_tokens - (usage.cached_tokens or 0) for usage in steps)
    gaps = sorted(gaps_s(events, "agg"))
    return summarize(events), gaps[len(gaps) // 2], computed, steps[-1].prompt_tokens + steps[-1].completion_tokens


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from stairstream.backends.torch.load import load  # torch takes its time to come

    start = time.monotonic()
    loaded = load(find_torch_model(args.model), args.dtype)
    loaded.tokens.end_ids = frozenset()  # answers have all their tokens
    model = TorchModel(find_torch_model(args.model), threads=args.threads)
    model.use(loaded)
    print(f"{args.model}, {args.dtype}, {args.threads} thread(s), loaded in {time.monotonic() - start:.1f} s")
    backend = TorchBackend(model, args.model)
    await measure(mixture(POLICIES["(16, 2)"], "insert", 16), backend)  # the first run pays for what is made once
    print("policy   layout    first s  total s  gap s  typical s  steps  computed  distinct  ratio  tok/s  of wait")
    rows = [("wait", PRESETS["wait"], None), *((n, p, one) for n, p in POLICIES.items() for one in LAYOUTS)]
    slowest = 0.0
    for name, policy, layout in rows:
        summary, typical_s, computed, distinct = await measure(mixture(policy, layout, args.tokens), backend)
        answer = summary.agents[-1]
        slowest = slowest or summary.total_s
        print(
            f"{name:8} {answer.layout or '':8} {summary.first_token_s or 0:8.2f} {summary.total_s:8.2f} "
            f"{summary.longest_gap_s:6.2f} {typical_s:10.3f} {answer.steps:6} {computed:9} {distinct:9} "
            f"{computed / distinct:6.2f} {args.tokens / summary.total_s:6.1f} {slowest / summary.total_s:8.2f}",
            flush=True,
        )
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(main())
