"""`stairstream eval seams`: what updates leave in free-running answers, in each layout."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from stairstream.cli.eval_output import open_bar, print_json, print_tables, results_folder, tell, write_report
from stairstream.cli.eval_replays import CAN, ENGINES, Engine, identify, read_engine, run_replays
from stairstream.cli.eval_retention import read_setups
from stairstream.core.errors import ConfigError, MissingExtra
from stairstream.core.policy import PRESETS
from stairstream.core.session import Layout
from stairstream.eval.intervals import check_installed
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import PROPOSERS, pick, read_prompts
from stairstream.eval.replay import Replays, Spoken, take_likeliest
from stairstream.eval.robustness.plan import cut
from stairstream.eval.seams.report import make_table
from stairstream.eval.seams.trying import SeamPlan, SeamRow, run_layouts, vocabulary

ALL: frozenset[Layout] = frozenset(layout for layouts in CAN.values() for layout in layouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of the command; see its help."""

    backends: Sequence[str]
    layouts: Sequence[str]
    policy: str
    limit: int
    cut: int
    max_tokens: int
    model: str
    threads: int | None
    data: Path
    out: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that came of the trials."""

    model: str
    policy: str
    cut_words: int
    max_tokens: int
    rows: tuple[SeamRow, ...]


def eval_seams(choices: Choices, *, as_json: bool) -> None:
    """Try and print. Raises ConfigError for what can't be, before a model is loaded."""
    engines = _find_engines(choices.backends)
    check_installed()
    setups = read_setups([choices.policy], choices.layouts)
    if setups[0].policy == PRESETS["wait"]:
        raise ConfigError("--policy: wait has no updates, and stands beside whatever you name; name another")
    layouts, cant = _find_layouts(engines, {setup.layout for setup in setups} if choices.layouts else ALL)
    every = read_prompts(choices.data, PROPOSERS)
    for engine in engines:
        identify(engine, choices.model)
    for one in cant:
        tell(f"skipped: {one}")
    folder = choices.out or results_folder()
    kept = Kept(folder / "replays.jsonl", Spoken)
    prompts = pick(every, choices.limit)
    plans = {
        engine: SeamPlan(
            prompts=prompts,
            proposals=[[cut(one.outputs[name], choices.cut) for name in PROPOSERS] for one in prompts],
            policy=setups[0].policy,
            layouts=its,
            sampling=take_likeliest(choices.max_tokens),
            known=vocabulary(every),
        )
        for engine, its in layouts.items()
    }
    try:
        rows = [row for engine, plan in plans.items() for row in _run(choices, engine, plan, kept)]
    except BaseException:
        tell(f"what was said so far is kept in {folder}; the same command goes on from there")
        raise
    report = Report(
        model=choices.model,
        policy=choices.policy,
        cut_words=choices.cut,
        max_tokens=choices.max_tokens,
        rows=tuple(rows),
    )
    tables = [make_table(rows, choices.policy)]
    write_report(folder, "seams", "Seams", tables, report)
    if as_json:
        print_json(report)
    else:
        print_tables(tables)
        tell(f"all in {folder}")


def _find_engines(names: Sequence[str]) -> list[Engine]:
    """Those that were named; without a name, those that are installed. Raises MissingExtra if none is."""
    if names:
        return [read_engine(name) for name in dict.fromkeys(names)]
    found: list[Engine] = []
    missing: list[MissingExtra] = []
    for engine in ENGINES:
        try:
            found.append(read_engine(engine))
        except MissingExtra as exc:
            missing.append(exc)
    if not found:
        raise missing[0]
    for one in missing:
        tell(f"skipped: {one}")
    return found


def _find_layouts(engines: Sequence[Engine], wanted: Set[Layout]) -> tuple[dict[Engine, list[Layout]], list[str]]:
    """Of the layouts that are wanted those that each engine can, and why not the others.

    Raises ConfigError if nothing is left.
    """
    cant = [f"{engine} can't do {layout}" for engine in engines for layout in sorted(wanted - set(CAN[engine]))]
    found = {engine: [layout for layout in CAN[engine] if layout in wanted] for engine in engines}
    if not any(found.values()):
        raise ConfigError(f"nothing to do: {', '.join(cant)}; choose another --layout or --backend")
    return {engine: layouts for engine, layouts in found.items() if layouts}, cant


def _run(choices: Choices, engine: Engine, plan: SeamPlan, kept: Kept[Spoken]) -> tuple[SeamRow, ...]:
    with open_bar(f"seams on {engine}", plan.num_answers) as advance:

        async def work(replays: Replays) -> tuple[SeamRow, ...]:
            return await run_layouts(plan, engine, replays, advance)

        return run_replays(engine, choices.model, choices.threads, kept, work)
