"""The group `bench`: measured runs. The options are here, the work is in files of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stairstream.cli.options import ConfigOption, PipelineOption, option, with_options

bench_app = typer.Typer(
    name="bench",
    help="Measure a pipeline beside waiting and the answering model alone.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Options of `bench`."""

    context: typer.Context
    config: ConfigOption = None
    pipeline: PipelineOption = None
    policy: Annotated[
        list[str] | None, option("NAME", "A policy to measure; may be repeated. The pipeline's own without it.")
    ] = None
    workload: Annotated[
        Path | None, option("FILE", "Questions: a JSON object with `prompt` per line. Four built-in ones without it.")
    ] = None
    limit: Annotated[int | None, typer.Option(metavar="NUMBER", min=1, help="Questions of it to take.")] = None
    users: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, help="Users who ask one question after the other; 1 without it."),
    ] = None
    rate: Annotated[
        float | None, typer.Option(metavar="NUMBER", min=0.001, help="Questions per second, at random (Poisson).")
    ] = None
    trace: Annotated[bool, typer.Option("--trace", help="Questions come at their at_s, in seconds.")] = False
    repetitions: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Times that each is asked.")] = 3
    warm_ups: Annotated[int, typer.Option(metavar="NUMBER", min=0, help="Runs of each system before, uncounted.")] = 1
    max_tokens: Annotated[int | None, option("NUMBER", "Longest answer of each agent, if shorter than its own.")] = None
    costs: Annotated[
        Path | None,
        option("FILE", "Cost models of `stairstream calibrate`: simulates, in virtual time, and asks none."),
    ] = None
    out: Annotated[Path | None, option("FOLDER", "Where to keep samples.jsonl, bench.json, report.html and .png.")] = (
        None
    )
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


@bench_app.callback(invoke_without_command=True)
@with_options(BenchOptions)
def bench_command(options: BenchOptions) -> None:
    """Measure a pipeline, always beside waiting (`wait`) and the answering model alone (`single`), in turns."""
    if options.context.invoked_subcommand is None:
        from stairstream.cli.bench_run import run_bench

        run_bench(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """Options of `bench compare`."""

    before: Annotated[Path, typer.Argument(metavar="A", help="A folder, or samples.jsonl, of an earlier `bench`.")]
    after: Annotated[Path, typer.Argument(metavar="B", help="The same of a later one.")]
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


@bench_app.command("compare")
@with_options(CompareOptions)
def compare_command(options: CompareOptions) -> None:
    """Compare two measurements: the ratio of the medians of each time, with its interval."""
    from stairstream.cli.bench_compare import compare_benches

    compare_benches(options)
