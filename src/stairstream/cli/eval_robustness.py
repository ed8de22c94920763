"""`stairstream eval robustness`: how far answers follow one proposer that is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from stairstream.backends.models import find_weights
from stairstream.cli.eval import RobustnessOptions
from stairstream.cli.eval_output import keeping, open_bar, results_folder, show_report
from stairstream.cli.eval_replays import CAN, Engine, check_engine, identify, load_torch, read_engine, run_replays
from stairstream.cli.eval_retention import read_proposers, read_reference, read_setups
from stairstream.cli.terminal import show_loading, tell
from stairstream.config.reading import nearest
from stairstream.core.errors import ConfigError
from stairstream.eval.data import ALPACA_EVAL, GSM8K, advise, find_data
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import RecordedPrompt, pick, read_prompts
from stairstream.eval.replay import DTYPE, Replays, Spoken, take_likeliest
from stairstream.eval.retention.scores import Setup
from stairstream.eval.robustness.corruption import Kind, Part
from stairstream.eval.robustness.free import FreeRow, count_runs, run_free
from stairstream.eval.robustness.numeric import NUM_PROPOSERS, NumberRow, count_numbers, run_numbers
from stairstream.eval.robustness.plan import RobustnessPlan, Wrong, changed_by
from stairstream.eval.robustness.problems import read_problems
from stairstream.eval.robustness.report import make_forced_table, make_free_table, make_number_table
from stairstream.eval.robustness.scores import ForcedRow, Nats, count_forced
from stairstream.eval.tables import Table
from stairstream.eval.tasks.questions import Question

TRIALS = ("free", "numbers", "forced")
POLICIES = ("wait", "balanced", "balanced,quorum=1", "balanced,quorum=all", "balanced,lead=-32", "careful", "paper")
"""`wait` is always there; the others differ in quorum, lead and first chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that came of it. Without recorded prompts there are no `proposers`, without forcing no `reference`."""

    model: str
    backend: str
    proposers: tuple[str, ...]
    reference: str | None
    cut_words: int
    max_tokens: int
    free: tuple[FreeRow, ...]
    numbers: tuple[NumberRow, ...]
    forced: tuple[ForcedRow, ...]


def eval_robustness(options: RobustnessOptions) -> None:
    """Try and print. Raises ConfigError for what can't be, before a model is loaded."""
    trials = _choose(options.trial or [], TRIALS, "--trial")
    engine = read_engine(options.backend)
    file = options.problems or find_data(GSM8K)
    trials, dropped = _drop_impossible(trials, engine, file)
    plan = _make_plan(options, engine, trials)
    problems = pick(read_problems(file), options.limit) if "numbers" in trials else []
    identify(engine, options.model)
    for one in dropped:
        tell(f"skipped {one}")
    for one in _find_ignored(options, trials):
        tell(f"{one}; it is ignored")
    folder = options.out or results_folder()
    spoken = Kept(folder / "replays.jsonl", Spoken)
    nats = Kept(folder / "forced.jsonl", Nats)
    with keeping(folder, spoken, nats):
        free, numbers = _run_replayed(options, engine, plan, problems, trials, spoken)
        forced = _run_forced(options, plan, nats) if "forced" in trials else ()
    report = Report(
        model=options.model,
        backend=engine,
        proposers=plan.proposers if plan.prompts else (),
        reference=plan.reference,
        cut_words=options.cut,
        max_tokens=options.max_tokens,
        free=free,
        numbers=numbers,
        forced=forced,
    )
    tables = _make_tables(report)
    show_report(folder, "robustness", tables, report, as_json=options.as_json)
    if not options.as_json:
        tell(f"all in {folder}")


def _make_plan(options: RobustnessOptions, engine: Engine, trials: Sequence[str]) -> RobustnessPlan:
    """The plan for these trials; `numbers` alone has problems and needs no prompts."""
    names = ["wait", *(name for name in options.policy or POLICIES if name != "wait")]
    kinds: list[Kind] = [
        kind for kind in get_args(Kind) if kind in _choose(options.kind or [], get_args(Kind), "--kind")
    ]
    proposers = read_proposers(options.proposer)
    reference = read_reference(options.reference, proposers) if "forced" in trials else None
    fewest = min(NUM_PROPOSERS if trial == "numbers" else len(proposers) for trial in trials)
    setups = read_setups(names, [options.layout or CAN[engine][0]], fewest)
    if setups[0].layout not in CAN[engine]:
        raise ConfigError(f"--layout: {engine} can't do {setups[0].layout}; it can: {', '.join(CAN[engine])}")
    data, prompts = options.data or find_data(ALPACA_EVAL), list[RecordedPrompt]()
    if set(trials) != {"numbers"}:
        prompts = pick(read_prompts(data, proposers if reference is None else (*proposers, reference)), options.limit)
        if len(prompts) < 2:
            raise ConfigError(f"{data} holds one prompt; the wrong words are another's, so two are needed")
    plan = RobustnessPlan(
        prompts=prompts,
        proposers=proposers,
        reference=reference,
        setups=setups,
        wrongs=[Wrong(kind=kind, part=part) for kind in kinds for part in get_args(Part)],
        most_words=options.cut,
        sampling=take_likeliest(options.max_tokens),
    )
    if not prompts:
        return plan
    wrongs = [wrong for wrong in plan.wrongs if changed_by(plan, wrong)]
    if not wrongs:
        raise ConfigError(f"nothing to do: {data} has no text that can be {' or '.join(kinds)}")
    return replace(plan, wrongs=wrongs)


def _choose(names: Sequence[str], known: Sequence[str], option: str) -> Sequence[str]:
    """Those that were named; all if none was."""
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: {name!r} is not one{nearest(name, known)}")
    return names or known


def _drop_impossible(trials: Sequence[str], engine: Engine, problems: Path) -> tuple[list[str], list[str]]:
    """Those that can be done here, and why not the others. Raises ConfigError if nothing is left."""
    reasons: dict[str, str] = {}
    if engine != "torch":
        reasons["forced"] = "teacher forcing needs --backend torch"
    if not problems.exists():
        reasons["numbers"] = f"there is no file {problems}; {advise(problems)}"
    dropped = [f"{trial}: {reasons[trial]}" for trial in trials if trial in reasons]
    left = [trial for trial in trials if trial not in reasons]
    if not left:
        raise ConfigError(f"nothing to do: {'; '.join(dropped)}")
    return left, dropped


def _find_ignored(options: RobustnessOptions, trials: Sequence[str]) -> list[str]:
    """Options that say nothing about these trials, and why."""
    ignored = []
    if options.reference is not None and "forced" not in trials:
        ignored.append("--reference: only forced scores recorded answers")
    if options.proposer and set(trials) == {"numbers"}:
        ignored.append("--proposer: numbers has proposals of its own making")
    return ignored


def _run_replayed(
    options: RobustnessOptions,
    engine: Engine,
    plan: RobustnessPlan,
    problems: Sequence[Question],
    trials: Sequence[str],
    kept: Kept[Spoken],
) -> tuple[tuple[FreeRow, ...], tuple[NumberRow, ...]]:
    setups: Sequence[Setup] = plan.setups

    async def work(replays: Replays) -> tuple[tuple[FreeRow, ...], tuple[NumberRow, ...]]:
        free: tuple[FreeRow, ...] = ()
        numbers: tuple[NumberRow, ...] = ()
        if "free" in trials:
            with open_bar("free", count_runs(plan)) as advance:
                free = await run_free(plan, replays, advance)
        if problems:
            with open_bar("numbers", count_numbers(problems, setups)) as advance:
                numbers = await run_numbers(problems, setups, plan.sampling, replays, advance)
        return free, numbers

    if "free" not in trials and not problems:
        return (), ()
    return run_replays(engine, options.model, options.threads, kept, work)


def _run_forced(options: RobustnessOptions, plan: RobustnessPlan, kept: Kept[Nats]) -> tuple[ForcedRow, ...]:
    check_engine("torch")
    from stairstream.eval.robustness.forced import run_forced

    with show_loading(options.model):
        loaded = load_torch(find_weights(options.model), DTYPE, options.threads)
    with open_bar("forced", count_forced(plan)) as advance:
        return run_forced(loaded, plan, kept, identify("torch", options.model), advance)


def _make_tables(report: Report) -> list[Table]:
    tables = []
    if report.free:
        tables.append(make_free_table(report.free))
    if report.numbers:
        tables.append(make_number_table(report.numbers))
    if report.forced:
        tables.append(make_forced_table(report.forced))
    return tables
