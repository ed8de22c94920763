"""Other programs for mixtures of agents beside ours: the same questions, models, speeds and lengths, in turns.

python -m bench.peers                  installs the peers on its first run, and prints the tables
python -m bench.peers --write          and writes them into README.md and docs/benchmarks.md
python -m bench.peers --kept --write   those of the last run again, without a run
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from bench.arguments import arguments, one_or_more
from bench.endpoint import fake_endpoint
from bench.peers.environments import FOLDER, ROOT
from bench.peers.results import Result, read_results, result_of, write_results
from bench.peers.scenarios import LIMIT_S, QUICK, SCENARIOS, Scenario
from bench.peers.systems import OPTILLM, Ask, open_systems
from bench.peers.tables import long_tables, put_between, short_table

KEPT = FOLDER / "results.jsonl"
QUESTIONS = ("Why is the sky blue?", "How does a bicycle stay upright?", "Why do cats purr?")
PAGES = {"README.md": short_table, "docs/benchmarks.md": long_tables}


async def measure(names: list[str], repetitions: int) -> list[Result]:
    """All systems in turn for each scenario and repetition, another one first each time; kept as they come."""
    chosen = [one for one in SCENARIOS if one.name in names]
    models = {name: keys for one in (QUICK, *chosen) for name, keys in one.models().items()}
    found: list[Result] = []
    with fake_endpoint(models) as endpoint:
        async with open_systems(endpoint, models) as systems:
            for ask in systems.values():
                await ask(QUICK.task("Hello"))
            for repetition in range(repetitions):
                for scenario in chosen:
                    for name in turned(list(systems), repetition):
                        if not is_asked(name, scenario, found):
                            continue
                        found.append(await ask_once(systems[name], name, scenario, repetition))
                        tell(found[-1])
                        write_results(found, KEPT)
    return found


def turned(names: list[str], number: int) -> list[str]:
    """The names from another one on, each time."""
    first = (number * 3) % len(names)
    return [*names[first:], *names[:first]]


def is_asked(name: str, scenario: Scenario, found: list[Result]) -> bool:
    """Once given up is enough; and a proxy that asks one model has no proposer that could be slow."""
    was_cut = any((one.system, one.scenario) == (name, scenario.name) and one.cut_s is not None for one in found)
    return not was_cut and (name != OPTILLM or scenario.is_for_one_model)


async def ask_once(ask: Ask, name: str, scenario: Scenario, repetition: int) -> Result:
    """One answer, given up after LIMIT_S."""
    try:
        async with asyncio.timeout(LIMIT_S):
            answer = await ask(scenario.task(QUESTIONS[repetition % len(QUESTIONS)]))
    except TimeoutError:
        return Result(scenario=scenario.name, system=name, repetition=repetition, cut_s=LIMIT_S)
    return result_of(answer, scenario.name, name, repetition)


def tell(result: Result) -> None:
    """A line on standard error: a run takes minutes."""
    times = (result.first_s, result.gap_s, result.total_s)
    said = ", ".join("-" if one is None else f"{one:.2f}" for one in times)
    load = os.getloadavg()[0]
    print(f"{result.scenario:10} {result.system:28} {said} (load {load:.1f})", file=sys.stderr, flush=True)


def read_arguments() -> argparse.Namespace:
    parser = arguments(__doc__)
    names = [one.name for one in SCENARIOS]
    parser.add_argument("--scenarios", nargs="+", choices=names, default=names)
    parser.add_argument("--repetitions", type=one_or_more, default=3)
    parser.add_argument("--kept", action="store_true", help="no run: the results of the last one")
    parser.add_argument("--write", action="store_true", help="the tables into the README and the page")
    return parser.parse_args()


def main() -> None:
    """Measures, prints, and writes the tables."""
    args = read_arguments()
    if args.kept and not KEPT.exists():
        raise SystemExit(f"there is no {KEPT.relative_to(ROOT)} yet")
    results = read_results(KEPT) if args.kept else asyncio.run(measure(args.scenarios, args.repetitions))
    for page, make in PAGES.items():
        print(f"{make(results)}\n")
        if args.write:
            put_between(Path(ROOT / page), "peers", make(results))


if __name__ == "__main__":
    main()
