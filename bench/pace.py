"""Measures even speech against the same policy without it, in virtual time.

python -m bench.pace            the table of docs/policies.md
python -m bench.pace --write    writes it into the page
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.adaptive import renew
from bench.arguments import arguments
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core.events import Event, as_written
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.pace import Pace
from stairstream.engine.run import open_run
from stairstream.sim.clock import run as run_in_virtual_time

PAGE = Path(__file__).parent.parent / "docs" / "policies.md"
MARK = "<!-- bench.pace -->"
HELD_BACK = ("paper", "balanced", "cheap", "careful")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Proposers and an aggregator of equal speed; `jitter` is the most by which each one's rate differs from it."""

    name: str
    num_proposers: int = 3
    tokens: int = 300
    call_s: float = 0.2
    tokens_per_s: float = 50.0
    prefill_tokens_per_s: float = math.inf
    jitter: float = 0.0

    def scripts(self, rng: random.Random) -> Iterator[tuple[str, Script]]:
        """The models: p1, p2, ... and agg."""
        for name in [*(f"p{i}" for i in range(1, self.num_proposers + 1)), "agg"]:
            rate = self.tokens_per_s * (1 + self.jitter * rng.uniform(-1, 1))
            yield (
                name,
                Script(
                    words=numbered_words(name, round(self.tokens * (1 + self.jitter * rng.uniform(-1, 1)))),
                    first_token_s=self.call_s * (1 + self.jitter * rng.uniform(-1, 1)),
                    token_s=1 / rate,
                    prefill_tokens_per_s=self.prefill_tokens_per_s,
                ),
            )


PROFILES = (
    Profile(name="300 tokens at 50/s"),
    Profile(name="2,000 tokens at 100/s", tokens=2000, tokens_per_s=100.0),
    Profile(name="16 proposers, prefill 2,000/s", num_proposers=16, prefill_tokens_per_s=2000.0),
    Profile(name="300 tokens, rates and lengths ± 20 %", jitter=0.2),
    Profile(name="2,000 tokens, rates and lengths ± 20 %", tokens=2000, tokens_per_s=100.0, jitter=0.2),
)
SEEDS = 12


def mixture(policy: Policy, profile: Profile) -> Graph:
    """Proposers p1, p2, ... and an aggregator agg."""
    sampling = Sampling(max_tokens=2 * profile.tokens)
    names = tuple(f"p{i}" for i in range(1, profile.num_proposers + 1))
    proposers = tuple(Agent(name=name, model=name, sampling=sampling) for name in names)
    aggregator = Agent(name="agg", model="agg", reads=names, policy=policy, sampling=sampling)
    return Graph(agents=(*proposers, aggregator), answer="agg")


def play(policy: Policy, profile: Profile, pace: Pace, seed: int = 0) -> Sequence[Event]:
    """The events of one run."""
    scripts = dict(profile.scripts(random.Random(seed)))

    async def main() -> Sequence[Event]:
        backends = {name: ScriptedBackend(script, name) for name, script in scripts.items()}
        async with open_run(mixture(policy, profile), question("Why is the sky blue?"), backends, pace=pace) as one:
            return [event async for event in one.events()]

    return run_in_virtual_time(main())


def measure(policy: Policy, profile: Profile) -> tuple[Summary, Summary]:
    """As written and as shown; with jitter, the run with the longest gap of several."""
    runs = [play(policy, profile, "even", seed) for seed in range(SEEDS if profile.jitter else 1)]
    both = [(summarize(as_written(events)), summarize(events)) for events in runs]
    return max(both, key=lambda pair: pair[1].longest_gap_s)


def rows() -> Iterator[str]:
    """The table."""
    heads = ("longest gap, raw", "even", "stall, raw", "even", "total, raw", "even", "seen")
    yield f"| profile | policy | first token | {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for profile in PROFILES:
        for name in HELD_BACK:
            raw, even = measure(PRESETS[name], profile)
            seen = "-" if even.seen_share is None else f"{even.seen_share:.0%}"
            yield (
                f"| {profile.name} | `{name}` | {even.first_token_s:.2f} s | {raw.longest_gap_s:.2f} s "
                f"| {even.longest_gap_s:.2f} s | {raw.stall_s:.2f} s | {even.stall_s:.2f} s "
                f"| {raw.total_s:.2f} s | {even.total_s:.2f} s | {seen} |"
            )


def main() -> None:
    """Prints the table, or writes it."""
    parser = arguments(__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/policies.md")
    args = parser.parse_args()
    lines = "\n".join(rows())
    if args.write:
        PAGE.write_text(renew(PAGE.read_text(), lines, MARK))
    else:
        print(lines)


if __name__ == "__main__":
    main()
