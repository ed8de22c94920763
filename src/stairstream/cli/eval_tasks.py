"""`stairstream eval tasks`: whole answers scored, with a bar while they come; what was bought is kept."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stairstream.backends.extras import require
from stairstream.cli.answering import COMMAND_LINE
from stairstream.cli.eval import TaskOptions
from stairstream.cli.eval_output import keeping, open_bar, results_folder, show_report
from stairstream.cli.terminal import show_loading, tell
from stairstream.config.build import open_backends
from stairstream.config.reading import nearest
from stairstream.config.schema import Config, load_config
from stairstream.core.errors import ConfigError
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import pick
from stairstream.eval.tasks.answers import AnswerSource, Failure, Said
from stairstream.eval.tasks.evaluating import JUDGE, TaskPlan, check_opponent, evaluate
from stairstream.eval.tasks.judging import make_judge
from stairstream.eval.tasks.purse import Purse, check_priced
from stairstream.eval.tasks.questions import TASKS, Task, file_of
from stairstream.eval.tasks.report import make_table
from stairstream.eval.tasks.scores import TaskReport, score_task
from stairstream.eval.tasks.systems import System, list_systems

EMBEDDED_TOKENS = 128
"""Longest answer of the embedded model, unless an option says another one: with so many all four tasks take about 45
minutes on two cores, with the 400 of the built-in configuration far longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A task that was left out, and why."""

    task: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that came of the evaluation. `ended` is `done`, or `max_cost` if the money ran out.

    `num_passing` answers were cut or degraded, and not kept.
    """

    ended: str
    spent: float
    num_asked: int
    num_kept: int
    num_passing: int
    failures: tuple[Failure, ...]
    skipped: tuple[Skipped, ...]
    tasks: tuple[TaskReport, ...]


def eval_tasks(options: TaskOptions) -> None:
    """Evaluate and print. Raises ConfigError for what can't be, before any model is asked."""
    require("eval tasks", ["scipy"], "eval")
    settings = load_config(options.config)
    pipeline = settings.pipeline(options.pipeline)
    max_tokens = most_tokens(settings, options.max_tokens)
    systems = list_systems(settings, pipeline, options.policy or [], max_tokens, COMMAND_LINE)
    judge = _find_judge(settings, options.judge, systems)
    tasks, skipped = _find_tasks(options)
    plans = [_make_plan(task, options, systems) for task in tasks]
    needed = [*systems, *([judge] if any(task.is_judged for task in tasks) else [])]
    if options.max_cost is not None:
        check_priced(settings, [system.graph for system in needed])
    folder = options.out or results_folder()
    kept = Kept(folder / "answers.jsonl", Said)
    if max_tokens != options.max_tokens:
        tell(f"answers end after {max_tokens} tokens, as the embedded model is slow; --max-tokens says otherwise")
    if (ignored := _list_ignored(options)) and not any(task.is_judged for task in tasks):
        tell(f"ignored {' and '.join(ignored)}: of {', '.join(task.name for task in tasks)} a number decides, no judge")
    for one in skipped:
        tell(f"skipped {one.task}: {one.why}")
    with keeping(folder, kept):
        report = asyncio.run(_run(settings, options, plans, needed, kept, skipped))
    tables = [make_table(one) for one in report.tasks]
    show_report(folder, "tasks", tables, report, as_json=options.as_json)
    _tell_end(report, options, folder)


def most_tokens(config: Config, wanted: int | None) -> int | None:
    """The longest answer, None where agents have their own."""
    return EMBEDDED_TOKENS if wanted is None and config.is_built_in else wanted


def _find_judge(config: Config, name: str | None, systems: Sequence[System]) -> System:
    """The judge: the model that is named, else the one that answers."""
    model = name or systems[0].model
    assert model is not None, "the first system is the answering model alone"
    if model not in config.models:
        raise ConfigError(f"--judge: {config.file} has no model {model!r}{nearest(model, config.models)}")
    return make_judge(config, model)


def _list_ignored(options: TaskOptions) -> list[str]:
    """The options that were given, and say nothing where nothing is judged."""
    given = {"--judge": options.judge, "--against": options.against}
    return [f"{name} {value}" for name, value in given.items() if value is not None]


def _find_tasks(options: TaskOptions) -> tuple[list[Task], list[Skipped]]:
    """The tasks whose questions are there; ConfigError if there is none."""
    names = list(dict.fromkeys(options.task or [])) or list(TASKS)
    for name in names:
        if name not in TASKS:
            raise ConfigError(f"--task: {name!r} is not a task{nearest(name, TASKS)}")
    wanted = [task for key, task in TASKS.items() if key in names]
    if options.data is not None and options.data.is_file() and len(wanted) > 1:
        raise ConfigError(f"--data {options.data} is one file; say with --task whose questions it holds")
    found, skipped = [], []
    for task in wanted:
        file = file_of(task, options.data)
        if file.exists():
            found.append(task)
        else:
            way = f"fetch it with: stairstream eval fetch {task.data.name}, or name another with --data"
            why = f"there is no file {file}; {way}"
            skipped.append(Skipped(task=task.name, why=why))
    if not found:
        raise ConfigError(f"nothing to do: {skipped[0].task}: {skipped[0].why}")
    return found, skipped


def _make_plan(task: Task, options: TaskOptions, systems: Sequence[System]) -> TaskPlan:
    questions = pick(task.read(file_of(task, options.data)), options.limit)
    plan = TaskPlan(task=task, questions=questions, systems=systems, opponent=options.against or systems[0].name)
    check_opponent(plan)
    return plan


async def _run(
    config: Config,
    options: TaskOptions,
    plans: Sequence[TaskPlan],
    systems: Sequence[System],
    kept: Kept[Said],
    skipped: Sequence[Skipped],
) -> Report:
    purse, reports = Purse(options.max_cost, options.at_once), list[TaskReport]()
    by_name: Mapping[str, System] = {system.name: system for system in systems}
    async with open_backends(config, [system.graph for system in systems], show_loading) as backends:
        source = AnswerSource(config, by_name, backends, kept, purse, options.at_once)
        for plan in plans:
            with open_bar(plan.task.name, plan.num_asks) as advance:
                outcomes = await evaluate(plan, source, advance, options.at_once)
            judge = by_name[JUDGE].model if JUDGE in by_name else None
            if (report := score_task(plan, outcomes, judge)) is not None:
                reports.append(report)
    return Report(
        ended="max_cost" if purse.is_empty else "done",
        spent=purse.spent,
        num_asked=source.num_asked,
        num_kept=source.num_kept,
        num_passing=source.num_passing,
        failures=tuple(source.failures),
        skipped=tuple(skipped),
        tasks=tuple(reports),
    )


def _tell_end(report: Report, options: TaskOptions, folder: Path) -> None:
    for failure in report.failures:
        lost = "that pair is not scored" if failure.system == JUDGE else "that question is left out"
        tell(f"failed, so {lost}: {failure.system}: {failure.error}")
    if report.num_passing:
        tell(f"{report.num_passing} answers were cut or degraded: not kept, the same command asks for them again")
    if report.ended == "max_cost":
        tell(f"ended: the limit of {options.max_cost:g} is spent; with a higher --max-cost the same command continues")
    tell(f"{report.num_asked} asked, {report.num_kept} kept from earlier, spent {report.spent:.3g}; all in {folder}")
