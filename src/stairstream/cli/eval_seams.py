"""`stairstream eval seams`: what updates leave in free-running answers, in each layout."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from stairstream.cli.eval import SeamOptions
from stairstream.cli.eval_output import keeping, open_bar, results_folder, show_report
from stairstream.cli.eval_replays import CAN, ENGINES, Engine, identify, read_engine, run_replays
from stairstream.cli.eval_retention import read_proposers, read_setups
from stairstream.cli.terminal import tell
from stairstream.core.errors import ConfigError, MissingExtra
from stairstream.core.policy import PRESETS
from stairstream.core.session import AskedLayout
from stairstream.eval.data import ALPACA_EVAL, find_data
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import pick, read_prompts
from stairstream.eval.replay import Replays, Spoken, take_likeliest
from stairstream.eval.robustness.plan import cut
from stairstream.eval.seams.report import make_table
from stairstream.eval.seams.trying import SeamPlan, SeamRow, run_layouts, vocabulary

ALL: frozenset[AskedLayout] = frozenset(layout for layouts in CAN.values() for layout in layouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that came of the trials."""

    model: str
    proposers: tuple[str, ...]
    policy: str
    cut_words: int
    max_tokens: int
    rows: tuple[SeamRow, ...]


def eval_seams(options: SeamOptions) -> None:
    """Try and print. Raises ConfigError for what can't be, before a model is loaded."""
    engines = _find_engines(options.backend or [])
    proposers = read_proposers(options.proposer)
    setups = read_setups([options.policy], options.layout or [], len(proposers))
    if setups[0].policy == PRESETS["wait"]:
        raise ConfigError("--policy: wait has no updates, and stands beside whatever you name; name another")
    layouts, cant = _find_layouts(engines, {setup.layout for setup in setups} if options.layout else ALL)
    every = read_prompts(options.data or find_data(ALPACA_EVAL), proposers)
    for engine in engines:
        identify(engine, options.model)
    for one in cant:
        tell(f"skipped: {one}")
    folder = options.out or results_folder()
    kept = Kept(folder / "replays.jsonl", Spoken)
    prompts = pick(every, options.limit)
    plans = {
        engine: SeamPlan(
            prompts=prompts,
            proposals=[[cut(one.outputs[name], options.cut) for name in proposers] for one in prompts],
            proposers=proposers,
            policy=setups[0].policy,
            layouts=its,
            sampling=take_likeliest(options.max_tokens),
            known=vocabulary(every),
        )
        for engine, its in layouts.items()
    }
    with keeping(folder, kept):
        rows = [row for engine, plan in plans.items() for row in _run(options, engine, plan, kept)]
    report = Report(
        model=options.model,
        proposers=proposers,
        policy=options.policy,
        cut_words=options.cut,
        max_tokens=options.max_tokens,
        rows=tuple(rows),
    )
    tables = [make_table(rows, options.policy)]
    show_report(folder, "seams", tables, report, as_json=options.as_json)
    if not options.as_json:
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


def _find_layouts(
    engines: Sequence[Engine], wanted: Set[AskedLayout]
) -> tuple[dict[Engine, list[AskedLayout]], list[str]]:
    """Of the layouts that are wanted those that each engine can, and why not the others.

    Raises ConfigError if nothing is left.
    """
    cant = [f"{engine} can't do {layout}" for engine in engines for layout in sorted(wanted - set(CAN[engine]))]
    found = {engine: [layout for layout in CAN[engine] if layout in wanted] for engine in engines}
    if not any(found.values()):
        raise ConfigError(f"nothing to do: {', '.join(cant)}; choose another --layout or --backend")
    return {engine: layouts for engine, layouts in found.items() if layouts}, cant


def _run(options: SeamOptions, engine: Engine, plan: SeamPlan, kept: Kept[Spoken]) -> tuple[SeamRow, ...]:
    with open_bar(f"seams on {engine}", plan.num_answers) as advance:

        async def work(replays: Replays) -> tuple[SeamRow, ...]:
            return await run_layouts(plan, engine, replays, advance)

        return run_replays(engine, options.model, options.threads, kept, work)
