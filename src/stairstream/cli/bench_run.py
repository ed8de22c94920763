"""`stairstream bench`: measures with a bar, prints a table, and keeps samples and a report."""

import asyncio
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stairstream import __version__
from stairstream.cli.as_json import to_json
from stairstream.cli.bench import BenchOptions
from stairstream.cli.eval_output import open_bar, print_json, print_tables
from stairstream.cli.terminal import show_loading, tell
from stairstream.config.build import open_backends
from stairstream.config.rates import Rates
from stairstream.config.schema import Config, load_config
from stairstream.core.errors import BackendError, ConfigError
from stairstream.eval.tasks.systems import System as Named
from stairstream.measure.report.figure import draw_png
from stairstream.measure.report.page import make_page
from stairstream.measure.running import Plan, System, measure
from stairstream.measure.samples import SAMPLES_FILE, Sample, write_samples
from stairstream.measure.statistics import Row, rows_of, tables_of
from stairstream.measure.systems import at_endpoints, choose_systems, on_cost_models
from stairstream.measure.workload import read_workload, trace_of
from stairstream.plan.arrivals import Closed, Poisson, Trace, choose_arrivals
from stairstream.plan.endpoints import EndpointCosts, read_costs
from stairstream.sim.clock import run as run_in_virtual_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The object that `--json` prints, and bench.json holds: how it was measured, and a row for each system."""

    facts: Mapping[str, str]
    rows: Sequence[Row]


def run_bench(options: BenchOptions) -> None:
    """Measure and show. Raises ConfigError for bad input before any model is asked, BackendError if none answered."""
    config = load_config(options.config)
    pipeline = config.pipeline(options.pipeline)
    named = choose_systems(config, pipeline, options.policy or [], options.max_tokens)
    make = _planner(options)
    costs = _costs_of(options, named)
    _open_folder(options.out)
    facts = _facts(options, config, pipeline.name)
    if costs is not None:
        plan = make(on_cost_models(config, named, costs))
        with open_bar("bench", plan.num_runs) as advance:
            samples = run_in_virtual_time(measure(plan, advance))
    else:
        samples = asyncio.run(_measure(config, named, make))
    _show(options, Report(facts=facts, rows=rows_of(samples)), samples)


def _planner(options: BenchOptions) -> Callable[[Sequence[System]], Plan]:
    """All of the plan but its systems."""
    asks = read_workload(options.workload, options.limit, in_order=options.trace)
    trace = trace_of(asks) if options.trace else None
    arrivals = choose_arrivals(options.users, options.rate, trace)
    return lambda systems: Plan(
        systems=systems,
        asks=asks,
        arrivals=arrivals,
        repetitions=options.repetitions,
        warm_ups=options.warm_ups,
    )


def _costs_of(options: BenchOptions, systems: Sequence[Named]) -> Mapping[str, EndpointCosts] | None:
    if options.costs is None:
        return None
    if "adaptive" in (options.policy or []):
        raise ConfigError(
            "--policy adaptive needs the speed of runs; `stairstream plan` sweeps policies on cost models"
        )
    costs = read_costs(options.costs)
    models = {agent.model for one in systems for agent in one.graph.agents}
    if unknown := sorted(models - set(costs)):
        raise ConfigError(
            f"{options.costs} has no costs of {', '.join(unknown)}; `stairstream calibrate` measures them"
        )
    return costs


def _open_folder(folder: Path | None) -> None:
    """Before anything is paid. Raises ConfigError if it can't be made."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SAMPLES_FILE).touch()
    except OSError as exc:
        raise ConfigError(f"--out: {folder} can't be written: {exc.strerror or exc}") from exc


async def _measure(config: Config, systems: Sequence[Named], make: Callable[[Sequence[System]], Plan]) -> list[Sample]:
    async with open_backends(config, [one.graph for one in systems], show_loading) as backends:
        with closing(Rates()) as rates:
            plan = make(at_endpoints(config, systems, backends, rates))
            with open_bar("bench", plan.num_runs) as advance:
                return await measure(plan, advance)


def _facts(options: BenchOptions, config: Config, pipeline: str) -> dict[str, str]:
    match choose_arrivals(options.users, options.rate, () if options.trace else None):
        case Closed(users=users):
            arrivals = f"{users} user(s), one question after the other"
        case Poisson(per_s=rate):
            arrivals = f"{rate:g} per second at random"
        case Trace():
            arrivals = "at the times of the trace"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return {
        "pipeline": f"{pipeline} of {config.file}",
        "time": "simulated" if options.costs else "real",
        "endpoints": f"cost models of {options.costs}" if options.costs else "as configured",
        "questions": f"{options.workload or 'built-in'}, {options.repetitions} time(s) each, {arrivals}",
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by stairstream {__version__}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}",
    }


def _show(options: BenchOptions, report: Report, samples: Sequence[Sample]) -> None:
    if options.out is not None:
        _keep(options.out, report, samples)
    if options.as_json:
        print_json(report)
    else:
        print_tables(tables_of(report.rows, report.facts["pipeline"]))
    failed = [one for one in samples if one.error is not None]
    if failed:
        tell(f"{len(failed)} of {len(samples)} runs failed; the first one: {failed[0].system}: {failed[0].error}")
    if not any(one.is_whole for one in samples):
        raise BackendError("no run was answered")


def _keep(folder: Path, report: Report, samples: Sequence[Sample]) -> None:
    """Samples, the report as JSON and as a page, and its picture. Raises ConfigError if they can't be written."""
    tables = tables_of(report.rows, report.facts["pipeline"])
    page = make_page("Measured: staircase, wait and single", report.facts, tables, report.rows, samples)
    try:
        write_samples(samples, folder / SAMPLES_FILE)
        (folder / "bench.json").write_text(to_json(report, indent=1) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(page, encoding="utf-8")
        has_picture = draw_png(samples, report.rows, folder / "report.png")
    except OSError as exc:
        raise ConfigError(f"the report can't be written into {folder}: {exc.strerror or exc}") from exc
    missing = "" if has_picture else "; a PNG needs matplotlib: pip install 'stairstream[eval]'"
    tell(f"samples and report.html in {folder}{missing}")
