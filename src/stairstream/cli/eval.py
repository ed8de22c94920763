"""The group `eval`: quality as a number. The options of each command are here, its work is in a file of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stairstream.backends.models import DEFAULT_MODEL
from stairstream.cli.options import ConfigOption, PipelineOption, option, with_options
from stairstream.eval.data import DATA_SETS

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OutOption = Annotated[Path | None, option("FOLDER", "Where it keeps what it bought, and its report.")]
DataOption = Annotated[
    Path | None,
    option("FILE", "Recorded answers of several systems, a JSON object per line; without it, the set alpaca-eval."),
]
ProposerOption = Annotated[
    list[str] | None,
    option("NAME", "A system of the data whose answers are read; may be repeated. Three single models without it."),
]
ReferenceOption = Annotated[
    str | None, option("NAME", "The system whose answers are scored; Together-MoA-Lite without it.")
]
CutOption = Annotated[int, typer.Option(metavar="WORDS", min=3, help="Cut every proposal after this many words.")]
LengthOption = Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Longest answer.")]
ModelOption = Annotated[str, option("MODEL", "The aggregator: a known name, a GGUF file or a folder.")]
ThreadsOption = Annotated[int | None, typer.Option(metavar="NUMBER", min=1, help="Of the processor; all without it.")]

eval_app = typer.Typer(
    name="eval",
    help="Quality as a number: what early speech costs.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@eval_app.callback(invoke_without_command=True)
def options(context: typer.Context) -> None:
    """Quality as a number: what early speech costs."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Options of `eval tasks`."""

    config: ConfigOption = None
    task: Annotated[
        list[str] | None, option("NAME", "gsm8k, mt-bench, alpaca-eval or arena-hard; may be repeated. All without it.")
    ] = None
    pipeline: PipelineOption = None
    policy: Annotated[
        list[str] | None, option("NAME", "A policy to compare; may be repeated. The pipeline's own without it.")
    ] = None
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Questions of each task.")] = 20
    judge: Annotated[str | None, option("MODEL", "Who compares answers; the answering model without it.")] = None
    against: Annotated[
        str | None, option("NAME", "Whom a judge compares with: a system here, or a recorded one; single without it.")
    ] = None
    data: Annotated[
        Path | None,
        option("PATH", "The folder with the questions, or one task's file; without it, the sets that were fetched."),
    ] = None
    max_cost: Annotated[float | None, option("AMOUNT", "Ends cleanly when this is spent.")] = None
    max_tokens: Annotated[
        int | None,
        option(
            "NUMBER", "Longest answer of each agent, if shorter than its own; of the embedded model 128 without it."
        ),
    ] = None
    at_once: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Questions at a time; times suffer.")] = 1
    out: OutOption = None
    as_json: JsonOption = False


@eval_app.command("tasks")
@with_options(TaskOptions)
def tasks_command(options: TaskOptions) -> None:
    """Score whole answers: single models, waiting and policies side by side. Continues where it was interrupted."""
    from stairstream.cli.eval_tasks import eval_tasks

    eval_tasks(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionOptions:
    """Options of `eval retention`."""

    data: DataOption = None
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Prompts.")] = 40
    cut: Annotated[
        int, typer.Option(metavar="TOKENS", min=0, help="Cut every text after this many tokens; 0: never.")
    ] = 256
    model: ModelOption = DEFAULT_MODEL
    policy: Annotated[
        list[str] | None,
        option("POLICY", "A preset, numbers as in first_chunk=16,lead=0, or both; may be repeated. All without it."),
    ] = None
    layout: Annotated[
        list[str] | None,
        option("LAYOUT", "insert, grouped, quoted, rounds or regrouped; may be repeated. The first two without it."),
    ] = None
    proposer: ProposerOption = None
    reference: ReferenceOption = None
    late: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How much later the first proposer's first token comes.")
    ] = 0.0
    dtype: Annotated[str, option("TYPE", "float32 or bfloat16.")] = "bfloat16"
    threads: ThreadsOption = None
    out: OutOption = None
    as_json: JsonOption = False


@eval_app.command("retention")
@with_options(RetentionOptions)
def retention_command(options: RetentionOptions) -> None:
    """Score a recorded answer word by word, with what each word would have seen. Continues where it was interrupted."""
    from stairstream.cli.eval_retention import eval_retention

    eval_retention(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessOptions:
    """Options of `eval robustness`."""

    trial: Annotated[list[str] | None, option("NAME", "free, numbers or forced; may be repeated. All without it.")] = (
        None
    )
    kind: Annotated[
        list[str] | None, option("NAME", "How it is wrong: swapped or contradicted; may be repeated. Both without it.")
    ] = None
    policy: Annotated[
        list[str] | None, option("POLICY", "As in retention; may be repeated. Some that differ without it.")
    ] = None
    layout: Annotated[str | None, option("LAYOUT", "insert on torch and grouped on llamacpp without it.")] = None
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=2, help="Prompts, and problems.")] = 20
    cut: CutOption = 150
    max_tokens: LengthOption = 128
    model: ModelOption = DEFAULT_MODEL
    backend: Annotated[str, option("NAME", "Where it runs: torch or llamacpp.")] = "torch"
    threads: ThreadsOption = None
    data: DataOption = None
    proposer: ProposerOption = None
    reference: ReferenceOption = None
    problems: Annotated[Path | None, option("FILE", "Problems of GSM8K, for `numbers`; without it, the set gsm8k.")] = (
        None
    )
    out: OutOption = None
    as_json: JsonOption = False


@eval_app.command("robustness")
@with_options(RobustnessOptions)
def robustness_command(options: RobustnessOptions) -> None:
    """Make one proposer wrong and see how far answers follow it, under each policy and under `wait`."""
    from stairstream.cli.eval_robustness import eval_robustness

    eval_robustness(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamOptions:
    """Options of `eval seams`."""

    backend: Annotated[
        list[str] | None, option("NAME", "torch or llamacpp; may be repeated. What is installed without it.")
    ] = None
    layout: Annotated[
        list[str] | None,
        option("LAYOUT", "insert, grouped, quoted, rounds or regrouped; may be repeated. All without it."),
    ] = None
    policy: Annotated[str, option("POLICY", "As in retention.")] = "balanced"
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=2, help="Answers in each layout.")] = 30
    cut: CutOption = 150
    max_tokens: LengthOption = 128
    model: ModelOption = DEFAULT_MODEL
    threads: ThreadsOption = None
    data: DataOption = None
    proposer: ProposerOption = None
    out: OutOption = None
    as_json: JsonOption = False


@eval_app.command("seams")
@with_options(SeamOptions)
def seams_command(options: SeamOptions) -> None:
    """Count what updates leave in free-running answers: restarts, repeats, broken words and sentences."""
    from stairstream.cli.eval_seams import eval_seams

    eval_seams(options)


@eval_app.command("fetch")
def fetch_command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help=f"{', '.join(DATA_SETS)}; without it, they are listed.")
    ] = None,
) -> None:
    """Fetch the questions of a task, and recorded answers, from where they are published; says the licence."""
    from stairstream.cli.eval_fetch import fetch, list_sets

    if name is None:
        list_sets()
    else:
        fetch(name)
