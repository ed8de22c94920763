"""The commands that predict: `calibrate` and `plan`. Their options are here, their work is in files of their own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stairstream.cli.options import ConfigOption, PipelineOption, option, with_options


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options of `plan`."""

    config: ConfigOption = None
    pipeline: PipelineOption = None
    costs: Annotated[
        Path | None, option("FILE", "Cost models of `stairstream calibrate`; without it, the speed of earlier runs.")
    ] = None
    texts: Annotated[
        Path | None, option("FILE", "Recorded answers, for their lengths: a JSON object with `outputs` per line.")
    ] = None
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Prompts of --texts to take.")] = 8
    retention: Annotated[
        Path | None, option("FILE", "A retention.json of `stairstream eval retention`, for the quality of policies.")
    ] = None
    max_prompt_tokens_factor: Annotated[
        float, typer.Option(metavar="NUMBER", min=1, help="Prompt tokens at most, over those of wait.")
    ] = 3.0
    shows_all: Annotated[bool, typer.Option("--all", help="Every policy, not only those on the frontier.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateOptions:
    """Options of `calibrate`."""

    config: ConfigOption = None
    model: Annotated[
        list[str] | None, option("NAME", "A model to measure; may be repeated. All of the file without it.")
    ] = None
    out: Annotated[Path | None, option("FILE", "Where the costs are kept; printed without it.")] = None


def add_prediction(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("calibrate")(calibrate_command)
    app.command("plan")(plan_command)


@with_options(CalibrateOptions)
def calibrate_command(options: CalibrateOptions) -> None:
    """Measure what calls cost in time at every endpoint, by a few short ones, for `plan`."""
    from stairstream.cli.calibrate import calibrate_all

    calibrate_all(options)


@with_options(PlanOptions)
def plan_command(options: PlanOptions) -> None:
    """Predict what each policy would do for a pipeline, in virtual time, and recommend one."""
    from stairstream.cli.plan import plan

    plan(options)
