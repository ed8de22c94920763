"""`stairstream eval robustness`: how far answers follow one proposer that is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from stairstream.backends.torch.backend import find_torch_model
from stairstream.cli.eval_output import open_bar, print_json, print_tables, results_folder, tell, write_report
from stairstream.cli.eval_replays import CAN, Engine, check_engine, identify, read_engine, run_replays
from stairstream.cli.eval_retention import read_setups
from stairstream.cli.terminal import show_loading
from stairstream.config.reading import nearest
from stairstream.core.errors import ConfigError
from stairstream.eval.intervals import check_installed
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import PROPOSERS, REFERENCE, RecordedPrompt, pick, read_prompts
from stairstream.eval.replay import DTYPE, Replays, Spoken, take_likeliest
from stairstream.eval.retention.scores import Setup
from stairstream.eval.robustness.corruption import Kind, Part
from stairstream.eval.robustness.free import FreeRow, count_runs, run_free
from stairstream.eval.robustness.numeric import NumberRow, count_numbers, run_numbers
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
class Choices:
    """The options of the command; see its help."""

    trials: Sequence[str]
    kinds: Sequence[str]
    policies: Sequence[str]
    layout: str | None
    limit: int
    cut: int
    max_tokens: int
    model: str
    backend: str
    threads: int | None
    data: Path
    problems: Path
    out: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that came of the trials."""

    model: str
    backend: str
    cut_words: int
    max_tokens: int
    free: tuple[FreeRow, ...]
    numbers: tuple[NumberRow, ...]
    forced: tuple[ForcedRow, ...]


def eval_robustness(choices: Choices, *, as_json: bool) -> None:
    """Try and print. Raises ConfigError for what can't be, before a model is loaded."""
    trials = _choose(choices.trials, TRIALS, "--trial")
    engine = read_engine(choices.backend)
    check_installed()
    trials, dropped = _drop_impossible(trials, engine, choices.problems)
    plan = _make_plan(choices, engine, trials)
    problems = pick(read_problems(choices.problems), choices.limit) if "numbers" in trials else []
    identify(engine, choices.model)
    for one in dropped:
        tell(f"skipped {one}")
    folder = choices.out or results_folder()
    spoken = Kept(folder / "replays.jsonl", Spoken)
    nats = Kept(folder / "forced.jsonl", Nats)
    try:
        free, numbers = _run_replayed(choices, engine, plan, problems, trials, spoken)
        forced = _run_forced(choices, plan, nats) if "forced" in trials else ()
    except BaseException:
        tell(f"what was computed so far is kept in {folder}; the same command goes on from there")
        raise
    report = Report(
        model=choices.model,
        backend=engine,
        cut_words=choices.cut,
        max_tokens=choices.max_tokens,
        free=free,
        numbers=numbers,
        forced=forced,
    )
    tables = _make_tables(report)
    write_report(folder, "robustness", "Robustness", tables, report)
    if as_json:
        print_json(report)
    else:
        print_tables(tables)
        tell(f"all in {folder}")


def _make_plan(choices: Choices, engine: Engine, trials: Sequence[str]) -> RobustnessPlan:
    """What is tried; `numbers` alone has problems and needs no prompts."""
    names = ["wait", *(name for name in choices.policies or POLICIES if name != "wait")]
    kinds: list[Kind] = [kind for kind in get_args(Kind) if kind in _choose(choices.kinds, get_args(Kind), "--kind")]
    setups = read_setups(names, [choices.layout or CAN[engine][0]])
    if setups[0].layout not in CAN[engine]:
        raise ConfigError(f"--layout: {engine} can't do {setups[0].layout}; it can: {', '.join(CAN[engine])}")
    prompts: list[RecordedPrompt] = []
    if set(trials) != {"numbers"}:
        prompts = pick(read_prompts(choices.data, (*PROPOSERS, REFERENCE)), choices.limit)
        if len(prompts) < 2:
            raise ConfigError(f"{choices.data} holds one prompt; the wrong words are another's, so two are needed")
    plan = RobustnessPlan(
        prompts=prompts,
        setups=setups,
        wrongs=[Wrong(kind=kind, part=part) for kind in kinds for part in get_args(Part)],
        most_words=choices.cut,
        sampling=take_likeliest(choices.max_tokens),
    )
    if not prompts:
        return plan
    wrongs = [wrong for wrong in plan.wrongs if changed_by(plan, wrong)]
    if not wrongs:
        raise ConfigError(f"nothing to do: {choices.data} has no text that can be {' or '.join(kinds)}")
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
        reasons["numbers"] = f"there is no {problems}; it would have to be downloaded, or name it --problems"
    dropped = [f"{trial}: {reasons[trial]}" for trial in trials if trial in reasons]
    left = [trial for trial in trials if trial not in reasons]
    if not left:
        raise ConfigError(f"nothing to do: {'; '.join(dropped)}")
    return left, dropped


def _run_replayed(
    choices: Choices,
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
    return run_replays(engine, choices.model, choices.threads, kept, work)


def _run_forced(choices: Choices, plan: RobustnessPlan, kept: Kept[Nats]) -> tuple[ForcedRow, ...]:
    check_engine("torch")
    import torch

    from stairstream.backends.torch.load import load
    from stairstream.eval.robustness.forced import run_forced

    if choices.threads is not None:
        torch.set_num_threads(choices.threads)
    with show_loading(choices.model):
        loaded = load(find_torch_model(choices.model), DTYPE)
    with open_bar("forced", count_forced(plan)) as advance:
        return run_forced(loaded, plan, kept, identify("torch", choices.model), advance)


def _make_tables(report: Report) -> list[Table]:
    tables = []
    if report.free:
        tables.append(make_free_table(report.free))
    if report.numbers:
        tables.append(make_number_table(report.numbers))
    if report.forced:
        tables.append(make_forced_table(report.forced))
    return tables
