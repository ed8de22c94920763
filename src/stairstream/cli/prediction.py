"""The commands that predict: `calibrate`, `plan`, `simulate`. The options; the work is in files of their own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stairstream.cli.options import ConfigOption, PipelineOption, PolicyOption, option, with_options


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options of `plan`."""

    config: ConfigOption = None
    pipeline: PipelineOption = None
    costs: Annotated[
        Path | None, option("FILE", "Cost models of `stairstream calibrate`; without it, the speed of earlier runs.")
    ] = None
    texts: Annotated[
        Path | None, option("FILE", "Recorded answers, for their lengths: `prompt` and `outputs` in each line.")
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
    within_s: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Of each model at most; what is left out is said.")
    ] = 45


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """Options of `simulate`."""

    costs: Annotated[Path, option("FILE", "Cost models of `stairstream calibrate`, with tokens_per_s at high loads.")]
    config: ConfigOption = None
    pipeline: PipelineOption = None
    policy: PolicyOption = None
    per_day: Annotated[
        float | None, typer.Option(metavar="NUMBER", min=1, help="Answers a day, at random times (Poisson).")
    ] = None
    rate: Annotated[float | None, typer.Option(metavar="NUMBER", min=0.001, help="The same, per second.")] = None
    users: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Users who ask one question after the other.")
    ] = None
    think_s: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Between a user's answer and question.")] = 30
    trace: Annotated[Path | None, option("FILE", "Arrivals: a JSON object with `at_s`, in seconds, per line.")] = None
    duration_s: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Time of arrivals; its middle half counts.")
    ] = 60
    texts: Annotated[
        Path | None, option("FILE", "Recorded answers, for their lengths: `prompt` and `outputs` in each line.")
    ] = None
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Prompts of --texts to take.")] = 8
    replicas: Annotated[
        list[str] | None,
        option("NUMBER", "Of each model, or MODEL=NUMBER; may be repeated. As few as can do the work without it."),
    ] = None
    slots: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Calls at once of one replica.")] = 32
    cache_tokens: Annotated[
        float, typer.Option(metavar="NUMBER", min=0, help="Tokens of prefixes that one replica's cache holds.")
    ] = 200_000
    affinity: Annotated[
        bool, typer.Option("--affinity/--no-affinity", help="An agent's calls go to the replica of its last one.")
    ] = True
    target_s: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Add replicas until the first token's p99 is here, and totals are not stretched.",
        ),
    ] = None
    replica_price: Annotated[float | None, typer.Option(metavar="AMOUNT", min=0, help="Of one replica an hour.")] = None
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Of everything that is random.")] = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


def add_prediction(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("calibrate")(calibrate_command)
    app.command("plan")(plan_command)
    app.command("simulate")(simulate_command)


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


@with_options(SimulateOptions)
def simulate_command(options: SimulateOptions) -> None:
    """Simulate many users on a fleet of replicas: how long they wait, what is cached, money, what breaks first."""
    from stairstream.cli.simulate import simulate

    simulate(options)
