"""`stairstream plan`: what each policy would do for a pipeline, in virtual time, and which one to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stairstream.cli.eval_output import open_bar, print_json, print_tables
from stairstream.cli.prediction import PlanOptions
from stairstream.cli.terminal import tell
from stairstream.config.choosing import find_pipeline
from stairstream.config.graphs import build_graph
from stairstream.config.rates import Rates
from stairstream.config.schema import Config, load_config
from stairstream.core.costs import Price
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph
from stairstream.eval.tables import Table, percent, seconds
from stairstream.plan.advising import Advice, advise, as_yaml, frontier, with_quality
from stairstream.plan.endpoints import EndpointCosts, of_rate, read_costs
from stairstream.plan.estimating import ANSWER_TOKENS
from stairstream.plan.quality import read_retention
from stairstream.plan.sweeping import SINGLE, WAIT, Outcome, num_candidates, sweep
from stairstream.plan.texts import Lengths, read_lengths, same_lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The object that `--json` prints: every outcome, the names on the frontier, and the advice."""

    pipeline: str
    num_texts: int
    outcomes: Sequence[Outcome]
    frontier: Sequence[str]
    chosen: str
    reasons: Sequence[str]
    yaml: str


def plan(options: PlanOptions) -> None:
    """Sweep, show the frontier beside `single` and `wait`, and recommend. Raises ConfigError for bad input."""
    config = load_config(options.config)
    settings = find_pipeline(config, options.pipeline)
    graph = build_graph(config.models, settings)
    if not graph.agent(graph.answer).reads:
        raise ConfigError(f"pipeline {settings.name!r} is a single model: there is no policy to plan")
    costs = _costs_of(config, graph, options.costs)
    retention = None if options.retention is None else read_retention(options.retention)
    texts = _texts_of(options, graph, costs)
    prices = {name: model.common.price for name, model in config.models.items() if model.common.price}
    with open_bar("plan", num_candidates()) as advance:
        outcomes = sweep(graph, costs, texts, prices, advance)
    if retention is not None:
        outcomes = with_quality(outcomes, retention)
    best, advice = frontier(outcomes), advise(outcomes, options.max_prompt_tokens_factor)
    if options.as_json:
        print_json(_report(settings.name, len(texts), outcomes, best, advice))
    else:
        _show(settings.name, outcomes, outcomes if options.shows_all else best, advice, prices)


def _costs_of(config: Config, graph: Graph, file: Path | None) -> dict[str, EndpointCosts]:
    """Cost models of all the pipeline's models. Raises ConfigError that names those which are not known."""
    rates = Rates().load(config.models)
    found = {name: of_rate(rate) for name, rate in rates.items()} if file is None else read_costs(file)
    if unknown := sorted({agent.model for agent in graph.agents} - set(found)):
        source = "no earlier run has shown the speed" if file is None else f"{file} has no costs"
        raise ConfigError(
            f"{source} of {', '.join(unknown)}; measure with: stairstream calibrate -c {config.file} --out costs.yaml"
        )
    return found


def _texts_of(options: PlanOptions, graph: Graph, costs: Mapping[str, EndpointCosts]) -> Sequence[Lengths]:
    if options.texts is not None:
        return read_lengths(options.texts, graph, options.limit)
    known = {name: one.answer_tokens for name, one in costs.items()}
    if not options.as_json:
        tell("lengths are those that the models are known to write; --texts FILE takes your own")
    return same_lengths(graph, known, ANSWER_TOKENS)


def _report(name: str, num_texts: int, outcomes: Sequence[Outcome], best: Sequence[Outcome], advice: Advice) -> Report:
    return Report(
        pipeline=name,
        num_texts=num_texts,
        outcomes=outcomes,
        frontier=[one.name for one in best],
        chosen=advice.chosen.name,
        reasons=advice.reasons,
        yaml=_yaml(advice),
    )


def _yaml(advice: Advice) -> str:
    assert advice.chosen.policy is not None, "advice is a policy, never the single model"
    return as_yaml(advice.chosen.policy)


def _show(
    name: str, outcomes: Sequence[Outcome], rows: Sequence[Outcome], advice: Advice, prices: Mapping[str, Price]
) -> None:
    by_name = {one.name: one for one in outcomes}
    shown = dict.fromkeys([SINGLE, WAIT, advice.chosen.name, *(one.name for one in rows)])
    table = Table(
        title=f"{name}: policies in virtual time, on the frontier of first token, pauses, total and prompt tokens",
        heads=("policy", "first token", "longest pause", "total", "seen", "calls", "prompt tokens", "money", "quality"),
        rows=tuple(_cells(by_name[one], advice) for one in shown),
        notes=(
            "(first_chunk, growth, slope); * is recommended. seen: of the references, known per word",
            *(("money: for 1,000 answers",) if prices else ()),
        ),
    )
    print_tables([table])
    console = Console(highlight=False)
    for reason in advice.reasons:
        console.print(Text(reason), soft_wrap=True)
    console.print(Text(f"\n    {_yaml(advice)}\n", style="bold"), soft_wrap=True)


def _cells(one: Outcome, advice: Advice) -> tuple[str, ...]:
    return (
        f"{one.name}{' *' if one.name == advice.chosen.name else ''}",
        seconds(one.first_token_s),
        seconds(one.longest_gap_s),
        seconds(one.total_s),
        percent(one.seen_share),
        f"{one.calls:g}",
        f"{one.prompt_tokens:,.0f}",
        "-" if one.money is None else f"{one.money:.2f}",
        "-" if one.quality is None else f"{one.quality:.3f}",
    )
