"""Compares the adaptive policy with the fixed presets, in virtual time, for models of several speeds.

python -m bench.adaptive           the tables of docs/policies.md
python -m bench.adaptive --write   writes them into it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.arguments import arguments
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.adaptive import Goals, adapt_graph, observe
from stairstream.core.events import Event, Wrote
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.run import open_run
from stairstream.sim.clock import run as run_in_virtual_time

PAGE = Path(__file__).parent.parent / "docs" / "policies.md"
MARK, END = "<!-- bench.adaptive -->", "<!-- end -->"
TOKENS = 300
PROPOSERS = ("p1", "p2", "p3")
READER_TOKENS_PER_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The speed of a model."""

    first_token_s: float = 0.2
    tokens_per_s: float = 50


PROFILES: Mapping[str, tuple[Speed, Speed]] = {
    "equal speeds: a call's first token after 0.2 s, then 50 tokens/s": (Speed(), Speed()),
    "a slow aggregator: 12 tokens/s": (Speed(), Speed(tokens_per_s=12)),
    "a fast aggregator: 150 tokens/s": (Speed(), Speed(tokens_per_s=150)),
    "slow calls of the aggregator: 1.5 s to a first token": (Speed(), Speed(first_token_s=1.5)),
}
"""Speeds of the proposers and of the aggregator, by title."""


def graph_of(policy: Policy) -> Graph:
    """Three proposers and an aggregator, each a model of its own."""
    sampling = Sampling(max_tokens=TOKENS)
    proposers = tuple(Agent(name=name, model=name, sampling=sampling) for name in PROPOSERS)
    return Graph(
        agents=(*proposers, Agent(name="agg", model="agg", reads=PROPOSERS, policy=policy, sampling=sampling)),
        answer="agg",
    )


def play(graph: Graph, proposer: Speed, aggregator: Speed) -> list[Event]:
    """The events of one run in virtual time."""
    speeds = {name: proposer for name in PROPOSERS} | {"agg": aggregator}
    backends = {
        name: ScriptedBackend(
            Script(
                words=numbered_words(name, TOKENS), first_token_s=speed.first_token_s, token_s=1 / speed.tokens_per_s
            )
        )
        for name, speed in speeds.items()
    }

    async def main() -> list[Event]:
        async with open_run(graph, question("Why is the sky blue?"), backends) as run:
            return [event async for event in run.events()]

    return run_in_virtual_time(main())


def reader_waits_s(events: Sequence[Event], tokens_per_s: float) -> float:
    """Seconds that a reader of this speed has nothing to read, after the first token."""
    waited_s, read_up_to_s = 0.0, None
    for event in events:
        if isinstance(event, Wrote) and event.agent == "agg":
            if read_up_to_s is not None:
                waited_s += max(0.0, event.at_s - read_up_to_s)
            read_up_to_s = max(event.at_s, read_up_to_s or 0.0) + event.num_tokens / tokens_per_s
    return waited_s


def adapted(proposer: Speed, aggregator: Speed) -> Policy:
    """The policy that adaptation chooses after one run has shown how fast the models are."""
    graph = graph_of(PRESETS["balanced"])
    rates = observe({}, graph, play(graph_of(PRESETS["wait"]), proposer, aggregator))
    return adapt_graph(graph, rates, Goals(reading_tokens_per_s=READER_TOKENS_PER_S), ["agg"]).agent("agg").policy


def make_tables() -> str:
    """A table for each profile, in Markdown."""
    tables = []
    for title, (proposer, aggregator) in PROFILES.items():
        policies = {**PRESETS, "adaptive": adapted(proposer, aggregator)}
        waiting = _prompt_tokens(play(graph_of(PRESETS["wait"]), proposer, aggregator))
        rows = [_row(name, policy, proposer, aggregator, waiting) for name, policy in policies.items()]
        tables.append("\n".join([f"**{title[0].upper()}{title[1:]}**\n", HEAD, *rows]))
    return "\n\n".join(tables)


COLUMNS = ("policy", "first chunk, growth", "first token", "longest gap", "stall", "reader waits", "total")
HEAD = "\n".join([f"| {' | '.join((*COLUMNS, 'prompt factor', 'seen'))} |", "|---" * (len(COLUMNS) + 2) + "|"])


def _row(name: str, policy: Policy, proposer: Speed, aggregator: Speed, waiting: int) -> str:
    events = play(graph_of(policy), proposer, aggregator)
    summary = summarize(events)
    cells = (
        f"`{name}`",
        f"{policy.first_chunk:g}, {policy.growth:.3g}",
        f"{summary.first_token_s or 0:.2f} s",
        f"{summary.longest_gap_s:.2f} s",
        f"{summary.stall_s:.2f} s",
        f"{reader_waits_s(events, READER_TOKENS_PER_S):.2f} s",
        f"{summary.total_s:.2f} s",
        f"{_prompt_tokens(events) / waiting:.2f}",
        f"{summary.seen_share or 0:.0%}",
    )
    return f"| {' | '.join(cells)} |"


def _prompt_tokens(events: Sequence[Event]) -> int:
    return next(one.usage.prompt_tokens for one in summarize(events).agents if one.name == "agg")


def renew(page: str, tables: str, mark: str = MARK) -> str:
    """The page with these tables between `mark` and the next end mark."""
    head, _, rest = page.partition(mark)
    _, _, tail = rest.partition(END)
    return f"{head}{mark}\n\n{tables}\n\n{END}{tail}"


def main() -> None:
    """Prints the tables, or writes them into the page."""
    parser = arguments(__doc__)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    tables = make_tables()
    if args.write:
        PAGE.write_text(renew(PAGE.read_text(), tables))
    else:
        print(tables)


if __name__ == "__main__":
    main()
