"""Measures the cost of one odd proposer, with the rule for silent upstreams and without it, in virtual time.

python -m bench.silence           the table of docs/policies.md
python -m bench.silence --write   writes it into the page
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.adaptive import renew
from bench.arguments import arguments
from stairstream.backends.scripted import Script, ScriptedBackend, numbered_words
from stairstream.core import decisions
from stairstream.core.events import Event
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.run import open_run
from stairstream.sim.clock import run as run_in_virtual_time

PAGE = Path(__file__).parent.parent / "docs" / "policies.md"
MARK = "<!-- bench.silence -->"
TOKENS = 300
CALL_S, TOKEN_S = 0.2, 0.02
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """The oddity of the first proposer: it starts `late_s` late, or ends after `length` tokens."""

    late_s: float = 0.0
    length: int = TOKENS


ODD: Mapping[str, Odd] = {
    "as the others": Odd(),
    "a refusal of 12 tokens": Odd(length=12),
    "3 s late": Odd(late_s=3),
    "10 s late": Odd(late_s=10),
    "never": Odd(late_s=math.inf),
}
CASES: Sequence[tuple[int, str]] = ((3, "balanced"), (3, "careful"), (2, "balanced"), (3, "wait"))


@contextmanager
def without_the_rule() -> Iterator[None]:
    """Lets no silent upstream leave the quorum."""
    kept = decisions.SILENCE_S
    decisions.SILENCE_S = math.inf
    try:
        yield
    finally:
        decisions.SILENCE_S = kept


def time_of(count: int, policy: Policy, odd: Odd) -> Summary:
    """The summary of a run of a mixture whose first proposer is odd."""
    names = [f"p{number}" for number in range(1, count + 1)]
    late_s = 1e6 if odd.late_s == math.inf else odd.late_s
    scripts = {
        name: Script(words=numbered_words(name, TOKENS), first_token_s=CALL_S, token_s=TOKEN_S) for name in names
    }
    scripts["p1"] = Script(words=numbered_words("p1", odd.length), first_token_s=CALL_S + late_s, token_s=TOKEN_S)
    scripts["agg"] = Script(words=numbered_words("agg", TOKENS), first_token_s=CALL_S, token_s=TOKEN_S)
    sampling = Sampling(max_tokens=TOKENS + 1)
    proposers = (Agent(name=name, model=name, sampling=sampling, first_token_s=DEADLINE_S) for name in names)
    answer = Agent(name="agg", model="agg", reads=tuple(names), policy=policy, sampling=sampling)
    graph = Graph(agents=(*proposers, answer), answer="agg")
    backends = {name: ScriptedBackend(script, name) for name, script in scripts.items()}

    async def main() -> list[Event]:
        async with open_run(graph, question("Why is the sky blue?"), backends) as run:
            return [event async for event in run.events()]

    return summarize(run_in_virtual_time(main()))


def make_table() -> str:
    """A table of every case with every oddity, in Markdown."""
    head = (
        "the first proposer is",
        "mixture of",
        "policy",
        "first token",
        "longest gap",
        "total",
        "prompt tokens",
        "seen",
    )
    rows = [f"| {' | '.join(head)} | without the rule: first token, total, seen |", "|---" * (len(head) + 1) + "|"]
    alone = (
        f"| - | - | `single` | {CALL_S:.2f} s | {TOKEN_S:.2f} s | {CALL_S + (TOKENS - 1) * TOKEN_S:.2f} s | 5 | - | |"
    )
    rows.append(alone)
    for title, odd in ODD.items():
        for count, preset in CASES:
            found = time_of(count, PRESETS[preset], odd)
            with without_the_rule():
                patient = time_of(count, PRESETS[preset], odd)
            prompt_tokens = next(one.usage.prompt_tokens for one in found.agents if one.name == "agg")
            cells = (
                title,
                str(count),
                f"`{preset}`",
                f"{found.first_token_s or 0:.2f} s",
                f"{found.longest_gap_s:.2f} s",
                f"{found.total_s:.2f} s",
                f"{prompt_tokens:,}",
                f"{found.seen_share or 0:.0%}",
            )
            is_same = (patient.first_token_s, patient.total_s) == (found.first_token_s, found.total_s)
            before = "the same" if is_same else _say(patient)
            rows.append(f"| {' | '.join(cells)} | {before} |")
    return "\n".join(rows)


def _say(summary: Summary) -> str:
    return f"{summary.first_token_s or 0:.2f} s, {summary.total_s:.2f} s, {summary.seen_share or 0:.0%}"


def main() -> None:
    """Prints the table, or writes it into the page."""
    parser = arguments(__doc__)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    table = make_table()
    if args.write:
        PAGE.write_text(renew(PAGE.read_text(), table, MARK))
    else:
        print(table)


if __name__ == "__main__":
    main()
