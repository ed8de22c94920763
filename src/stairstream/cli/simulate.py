"""`stairstream simulate`: many users on a fleet of replicas, and what of it breaks first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from stairstream.cli.eval_output import open_bar, print_json, print_tables
from stairstream.cli.prediction import SimulateOptions
from stairstream.cli.terminal import tell
from stairstream.config.schema import Config, load_config
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph
from stairstream.eval.recorded import read_rows
from stairstream.eval.tables import Table, percent, seconds
from stairstream.measure.systems import choose_systems
from stairstream.plan.arrivals import Arrivals, Poisson, choose_arrivals
from stairstream.plan.endpoints import EndpointCosts, read_costs
from stairstream.plan.estimating import ANSWER_TOKENS
from stairstream.plan.fleet.outlook import DAY_S, MOST_STEPS, Load, Outlook, least_replicas, look, size_fleet, stresses
from stairstream.plan.fleet.replaying import Fleet
from stairstream.plan.fleet.replicas import Size
from stairstream.plan.fleet.schedules import Schedule, schedule_of
from stairstream.plan.texts import Lengths, fit_lengths, read_lengths, same_lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The object that `--json` prints: the fleet, the systems on it, and what happens when something goes wrong."""

    pipeline: str
    replicas: Mapping[str, int]
    systems: Sequence[Outlook]
    stresses: Sequence[Outlook]


class _Arrival(msgspec.Struct, frozen=True, kw_only=True):
    at_s: float


def simulate(options: SimulateOptions) -> None:
    """Simulate and show. Raises ConfigError for bad input, and where no fleet reaches the target."""
    config = load_config(options.config)
    pipeline = config.pipeline(options.pipeline)
    costs = read_costs(options.costs)
    systems = choose_systems(config, pipeline, [options.policy] if options.policy else [], None)
    schedules = _schedules_of([(one.name, one.graph) for one in systems], costs, options)
    name = systems[-1].name
    load = Load(
        schedules=schedules[name], arrivals=_arrivals_of(options), duration_s=options.duration_s, seed=options.seed
    )
    prices = {name: model.common.price for name, model in config.models.items() if model.common.price}
    looking = partial(look, costs=costs, prices=prices, per_hour=options.replica_price)
    fleet = _fleet_of(options, config, load, costs)
    if options.target_s is not None:
        with open_bar("fleet", MOST_STEPS) as advance:
            sized = size_fleet(fleet, load, lambda one: looking(name, one, load), options.target_s, advance)
        if sized is None:
            raise ConfigError(f"--target-s {options.target_s:g}: no number of replicas has its p99 there")
        fleet = sized
    with open_bar("simulate", len(systems) + 4) as advance:
        found = []
        for one, own in schedules.items():
            found.append(looking(one, _only(fleet, own), replace(load, schedules=own)))
            advance(1)
        stressed = []
        for title, (other, more) in stresses(fleet, load, found[-1].tightest.model).items():
            stressed.append(looking(title, other, more))
            advance(1)
    if nothing := next((one.name for one in found if not one.num_runs), None):
        raise ConfigError(
            f"--duration-s {options.duration_s:g}: no run of {nothing} arrived in its middle half, which alone counts; "
            "take longer, or more users"
        )
    report = Report(pipeline=pipeline.name, replicas=fleet.replicas, systems=found, stresses=stressed)
    print_json(report) if options.as_json else _show(report)


def _arrivals_of(options: SimulateOptions) -> Arrivals:
    if options.per_day is not None:
        if options.users or options.rate or options.trace:
            raise ConfigError("give one of --per-day, --users, --rate and --trace")
        return Poisson(per_s=options.per_day / DAY_S)
    if options.users is None and options.rate is None and options.trace is None:
        raise ConfigError("how many ask? give one of --per-day, --users, --rate and --trace")
    trace = None
    if options.trace is not None:
        trace = tuple(row.at_s for row in read_rows(options.trace, _Arrival))
    return choose_arrivals(options.users, options.rate, trace, options.think_s)


def _schedules_of(
    systems: Sequence[tuple[str, Graph]], costs: Mapping[str, EndpointCosts], options: SimulateOptions
) -> dict[str, list[Schedule]]:
    """For each system a schedule for each text."""
    whole = systems[-1][1]
    if unknown := sorted({agent.model for agent in whole.agents} - set(costs)):
        raise ConfigError(
            f"{options.costs} has no costs of {', '.join(unknown)}; `stairstream calibrate` measures them"
        )
    texts: Sequence[Lengths]
    if options.texts is not None:
        texts = read_lengths(options.texts, whole, options.limit)
    else:
        texts = same_lengths(whole, {name: one.answer_tokens for name, one in costs.items()}, ANSWER_TOKENS)
    return {
        name: [schedule_of(graph, costs, fit_lengths(graph, lengths, whole)) for lengths in texts]
        for name, graph in systems
    }


def _fleet_of(options: SimulateOptions, config: Config, load: Load, costs: Mapping[str, EndpointCosts]) -> Fleet:
    replicas = least_replicas(load, costs, options.slots)
    for text in options.replicas or []:
        model, _, number = text.rpartition("=")
        if not number.isdecimal() or not int(number) or (model and model not in replicas):
            raise ConfigError(f"--replicas: {text!r} is not a number above 0, or MODEL=NUMBER of {', '.join(replicas)}")
        replicas |= dict.fromkeys([model] if model else replicas, int(number))
    return Fleet(
        replicas=replicas,
        size=Size(slots=options.slots, cache_tokens=options.cache_tokens),
        affinity=options.affinity,
    )


def _only(fleet: Fleet, schedules: Sequence[Schedule]) -> Fleet:
    """The replicas of the models that these schedules call."""
    models = {call.model for one in schedules for call in one.calls}
    return replace(fleet, replicas={name: number for name, number in fleet.replicas.items() if name in models})


def _show(report: Report) -> None:
    notes = (
        "full: of the slots or the processors of the fullest model; prefill: of its work; queue: p99 of its calls",
        "late: not within four times --duration-s; price: of 1,000 answers, by tokens; by hour: the same, by replicas",
    )
    own = report.systems[-1]
    print_tables(
        [
            _table(f"{report.pipeline} on {_fleet_text(report.replicas)}", report.systems, notes),
            _table(f"{own.name}, when something goes wrong", report.stresses, ()),
        ]
    )
    tell(_why(own, report.stresses))


def _fleet_text(replicas: Mapping[str, int]) -> str:
    return ", ".join(f"{number} x {model}" for model, number in replicas.items())


def _why(own: Outlook, stressed: Sequence[Outlook]) -> str:
    first = own.tightest
    what = "slots" if first.slots_share > first.work_share else "processors"
    work = "prompts" if first.prefill_share > 0.5 else "decoding"
    worst = max(stressed, key=lambda one: (one.num_runs > 0, one.first_token_p99_s))
    return (
        f"breaks first: {first.model}, whose {what} are {first.full_share:.0%} full, mostly with {work}; "
        f"worst of these is {worst.name!r}, with a first token after {_time(worst.first_token_p99_s)} (p99)"
    )


def _time(value_s: float) -> str:
    """Infinite: not within the time that was simulated; none: no run arrived that counts."""
    return "late" if value_s == math.inf else "-" if math.isnan(value_s) else seconds(value_s)


def _table(title: str, rows: Sequence[Outlook], notes: tuple[str, ...]) -> Table:
    heads = ("", "per s", "first token p50", "p99", "total p50", "p99", "full", "prefill", "cached", "queue")
    return Table(
        title=title,
        heads=(*heads, "price", "by hour"),
        rows=tuple(
            (
                one.name,
                f"{one.runs_per_s:.1f}",
                *(_time(n) for n in (one.first_token_p50_s, one.first_token_p99_s, one.total_p50_s, one.total_p99_s)),
                percent(one.tightest.full_share),
                percent(one.tightest.prefill_share),
                percent(one.tightest.cached_share),
                seconds(one.tightest.queued_p99_s),
                "-" if one.price is None else f"{one.price:.2f}",
                "-" if one.replicas_price is None else f"{one.replicas_price:.2f}",
            )
            for one in rows
        ),
        notes=notes,
    )
