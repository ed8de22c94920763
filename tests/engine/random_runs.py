"""Random runs, each of its seed alone: any graph, policies, faults, wrappers, and any way to end it early.

`python -m tests.engine.random_runs COUNT` prints the events of that many, a line each.
"""

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.costs import Price
from stairstream.core.events import Event, RunStarted
from stairstream.core.graph import Agent, Agreement, Graph, Sampling
from stairstream.core.policy import PRESETS
from stairstream.engine.pace import FixedPace
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK

MODELS = ("m0", "m1", "m2", "m3")


def random_script(rng: random.Random) -> Script:
    fault = Fault(
        kind=rng.choice(["status_500", "status_429", "cut", "hang", "malformed", "empty", "no_done"]),
        after_tokens=rng.randrange(12),
        calls=rng.choice([None, 1, 2]),
        every=rng.choice([1, 2]),
    )
    return Script(
        words=numbered_words("w", rng.randint(1, 60)),
        thoughts=["hm "] * rng.choice([0, 0, 0, 4]),
        first_token_s=rng.choice([0.0, 0.5, 0.5, 2.0]),
        token_s=rng.choice([0.0, 0.125, 0.125, 0.25]),
        caches_prefix=True,
        prefetches=rng.random() < 0.5,
        fault=fault if rng.random() < 0.3 else None,
    )


def random_backend(rng: random.Random, model: str) -> Backend:
    backend: Backend = ScriptedBackend(random_script(rng), model)
    if rng.random() < 0.5:
        per_minute = rng.choice([None, 60, 240])
        backend = Limited(backend, max_concurrency=rng.choice([1, 2, None]), requests_per_minute=per_minute)
    if rng.random() < 0.5:
        backend = Hedged(backend, hedge_after_s=rng.choice([0.25, 1.0]))
    return Retrying(backend, attempts=rng.randint(1, 3), rng=random.Random(rng.random()))


def random_graph(rng: random.Random) -> Graph:
    """An acyclic graph in which the last agent is the answer and everyone is read; listed in any order."""
    count = rng.randint(1, 7)
    reads: list[set[int]] = [set() for _ in range(count)]
    for i in range(count - 1):
        for reader in rng.sample(range(i + 1, count), rng.randint(1, min(2, count - 1 - i))):
            reads[reader].add(i)
    agents = [
        Agent(
            name=f"a{i}",
            model=rng.choice(MODELS),
            reads=tuple(f"a{j}" for j in sorted(reads[i])),
            policy=PRESETS[rng.choice(["paper", "balanced", "cheap", "wait"])],
            sampling=Sampling(max_tokens=rng.choice([5, 40, 200])),
            fallbacks=tuple(rng.sample(MODELS, rng.randrange(3))),
            first_token_s=rng.choice([None, 4.0]),
            gap_s=4.0,
            context_tokens=rng.choice([None, 200]),
            agreement=Agreement(over_tokens=8) if rng.random() < 0.3 else None,
        )
        for i in range(count)
    ]
    answer = agents[-1].name
    rng.shuffle(agents)
    return Graph(agents=tuple(agents), answer=answer)


async def _play(graph: Graph, backends: Mapping[str, Backend], rng: random.Random) -> Sequence[Event]:
    leave_s = rng.choice([None, rng.randrange(64) * 0.125, rng.random() * 8])
    async with open_run(
        graph,
        ASK,
        backends,
        deadline_s=rng.choice([8.0, 60.0]),
        prices=dict.fromkeys(MODELS, Price(prompt=1e4, completion=1e6)),
        max_cost=rng.choice([None, None, 60.0]),
        pace=rng.choice(["raw", "even", FixedPace(tokens_per_s=16, hold_s=0.25)]),
    ) as one:
        try:
            async with asyncio.timeout(leave_s):
                await one.wait_ended()
        except TimeoutError:
            pass
    return one.past


def events_of(seed: int) -> Sequence[Event]:
    """The events of the run of this seed, all but its id."""
    rng = random.Random(seed)
    graph = random_graph(rng)
    backends = {model: random_backend(rng, model) for model in MODELS}
    events = run(_play(graph, backends, rng))
    return [replace(one, run_id="") if isinstance(one, RunStarted) else one for one in events]


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        print(events_of(number))
