"""Measures the engine's cost of a token as a run grows: longer, wider, deeper; with the fitted exponents.

python -m bench.growth                          every preset
python -m bench.growth --policy paper --profile
python -m bench.growth --spread 0.1             agents whose speeds differ by up to a tenth

CPU time in virtual time, on sessions that only wait and give one token at a time: a number holds their own cost too,
which the first line shows. An exponent of 0 means that a token costs the same however much there is.
"""

import asyncio
import cProfile
import math
import pstats
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.arguments import arguments, not_negative, one_or_more
from stairstream.backends.base import Backend, Session
from stairstream.core.events import Event, Wrote
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Began, Chunk, Delta, Ended, WriteItem
from stairstream.core.stops import StopFinder
from stairstream.engine.run import open_run
from stairstream.sim.clock import run

TOKEN_S = 0.02
TOKENS = 200
WIDTHS = (4, 16, 64, 256)
Shape = Callable[[int], tuple[int, Sequence[int]]]
"""Tokens of each agent, and the agents of each layer."""
GROWTHS: tuple[tuple[str, Sequence[int], Shape], ...] = (
    ("length, 3 proposers", (250, 1000, 4000), lambda size: (size, [3])),
    ("width, one layer", WIDTHS, lambda size: (TOKENS, [size])),
    ("width, two full layers", (4, 8, 16, 32), lambda size: (TOKENS, [size, size])),
    ("depth, a chain", (4, 16, 64), lambda size: (TOKENS, [1] * size)),
)
STOP_LENGTHS = (20, 200, 2000, 20_000)


class Ticking(Session):
    """Gives a token at each tick until its limit, or the length of its answer."""

    def __init__(self, tick_s: float, length: int) -> None:
        self._tick_s = tick_s
        self._left = length
        self._is_stopped = False

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Reads nothing: its words are the same whatever it is told."""

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """The next tokens."""
        self._is_stopped = False
        yield Began(layout="grouped", why="", prompt_tokens=0, is_estimate=False)
        for _ in range(min(limit, self._left)):
            await asyncio.sleep(self._tick_s)
            if self._is_stopped:
                yield Ended(reason="stopped")
                return
            self._left -= 1
            yield Delta("word ")
        yield Ended(reason="limit" if self._left else "stop")

    def stop(self) -> None:
        """Ends the write at the next tick."""
        self._is_stopped = True

    async def aclose(self) -> None:
        """Holds nothing."""


@dataclass(slots=True)
class TickingBackend:
    """Opens sessions that tick; each is slower than the one before it, by equal parts of `spread` in all."""

    length: int
    spread: float = 0.0
    num_agents: int = 1
    model: str = "m"
    room: None = None
    takes: frozenset[str] = frozenset()
    _opened: int = field(default=0)

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Ticking:
        """A session that has not begun."""
        self._opened += 1
        return Ticking(TOKEN_S * (1 + self.spread * self._opened / self.num_agents), self.length)

    async def aclose(self) -> None:
        """Shares nothing."""


def layered(policy: Policy, tokens: int, *sizes: int) -> Graph:
    """Layers of so many agents, each agent reading all of the layer before it, and one that answers."""
    sampling = Sampling(max_tokens=tokens)
    before: tuple[str, ...] = ()
    agents: list[Agent] = []
    for layer, size in enumerate((*sizes, 1)):
        names = tuple(f"l{layer}a{i}" for i in range(size))
        agents += [Agent(name=name, model="m", reads=before, policy=policy, sampling=sampling) for name in names]
        before = names
    return Graph(agents=tuple(agents), answer=agents[-1].name)


async def play(graph: Graph, backends: Mapping[str, Backend]) -> list[Event]:
    """The events of one run."""
    async with open_run(graph, question("Why?"), backends) as one:
        return [event async for event in one.events()]


def cost_us(graph: Graph, tokens: int, spread: float, repeats: int) -> float:
    """CPU microseconds of a token of any agent: the median of several runs."""
    costs = []
    for _ in range(repeats):
        backend = TickingBackend(tokens, spread, len(graph.agents))
        start = time.process_time()
        events = run(play(graph, {"m": backend}))  # type: ignore[dict-item]
        spent = time.process_time() - start
        costs.append(spent / sum(event.num_tokens for event in events if isinstance(event, Wrote)))
    return statistics.median(costs) * 1e6


def session_us(tokens: int) -> float:
    """CPU microseconds of a token of a session alone."""

    async def write() -> None:
        async for _ in Ticking(TOKEN_S, tokens).write(tokens):
            pass

    start = time.process_time()
    run(write())
    return (time.process_time() - start) / tokens * 1e6


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the straight line through the logarithms."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(cost) for cost in costs]).slope


def row(name: str, sizes: Sequence[int], measure: Callable[[int], float]) -> str:
    """One row: the cost at each size, and the exponent."""
    costs = [measure(size) for size in sizes]
    shown = ", ".join(
        f"{size:,}: {cost:.2f}" if cost < 1 else f"{size:,}: {cost:.1f}"
        for size, cost in zip(sizes, costs, strict=True)
    )
    return f"| {name} | {shown} | {exponent(sizes, costs):+.2f} |"


def summary_us(width: int) -> float:
    """CPU microseconds of an event in `summarize`, for the events of a run of that width."""
    events = run(play(layered(PRESETS["wait"], 20, width), {"m": TickingBackend(20)}))  # type: ignore[dict-item]
    start = time.process_time()
    summarize(events)
    return (time.process_time() - start) / len(events) * 1e6


def stop_us(text: str, length: int) -> float:
    """CPU microseconds of a token while four stop strings of that length are matched."""
    finder = StopFinder([("word " * length)[: length - 1] + end for end in ".,!?"])
    tokens = 2 * STOP_LENGTHS[-1] // len(text)
    start = time.process_time()
    for _ in range(tokens):
        finder.feed(text)
    return (time.process_time() - start) / tokens * 1e6


def table(names: Sequence[str], spread: float, repeats: int) -> None:
    """Prints the cost of a token under each policy."""
    print("| policy | grows | CPU us a token | exponent |\n|---|---|---|---:|")
    for name in names:
        for growth, sizes, shape in GROWTHS:

            def measure(size: int, name: str = name, shape: Shape = shape) -> float:
                tokens, layers = shape(size)
                return cost_us(layered(PRESETS[name], tokens, *layers), tokens, spread, repeats)

            print(row(f"`{name}` | {growth}", sizes, measure), flush=True)


def main() -> None:
    """Prints the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--policy", choices=sorted(PRESETS), action="append")
    parser.add_argument("--spread", type=not_negative, default=0.0)
    parser.add_argument("--repeats", type=one_or_more, default=3)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    profile = cProfile.Profile()
    if args.profile:
        profile.enable()
    print(f"a session alone: {session_us(20_000):.1f} us a token\n")
    table(args.policy or list(PRESETS), args.spread, args.repeats)
    print("\n| cost | grows | CPU us | exponent |\n|---|---|---|---:|")
    print(row("an event in `summarize` | width, one layer", WIDTHS, summary_us))
    print(row("a token with 4 stop strings that it may begin | their length", STOP_LENGTHS, partial(stop_us, "word ")))
    print(row("a token with 4 other stop strings | their length", STOP_LENGTHS, partial(stop_us, "text ")))
    profile.disable()
    if args.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
