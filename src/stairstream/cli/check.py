"""`stairstream check`: asks every model of a configuration a little, and says what a question will cost."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stairstream.backends.base import Backend, Session
from stairstream.cli.terminal import printable, show_loading
from stairstream.config.build import Engines, open_engines
from stairstream.config.choosing import choose_policy
from stairstream.config.graphs import build_graph, goals_of
from stairstream.config.models import ModelConfig
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.rates import Rates, adapt_agents
from stairstream.config.schema import Config, load_config
from stairstream.config.topologies import SingleKeys
from stairstream.core.errors import BackendError, ConfigError, MissingExtra, StairstreamError
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Began, Chunk, Delta, Ended, Layout
from stairstream.core.worth import SHARE
from stairstream.plan.estimating import ANSWER_TOKENS, estimate, first_tokens_s
from stairstream.plan.texts import QUESTION_TOKENS

_QUESTION = "Name three colours."
_DRAFT = "Red, green"
_WAITS = "With tools or a response_format a pipeline answers as with `wait`: clients.md has what to switch off."
_TRY_TOKENS = 4
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The result of a model's probe: `layout` and `why` are those of a second call, which continues the first."""

    layout: Layout
    why: str
    first_token_s: float
    counts_cached: bool


def check(file: Path | None) -> None:
    """Print what each model can and what each pipeline costs. Raises the first model's error after all were asked."""
    config = load_config(file)
    console = Console(highlight=False)
    probed = asyncio.run(_probe_all(config))
    _show_models(console, config, probed)
    console.print()
    console.print(_costs_table(config, probed))
    console.print(
        Text(
            f"Estimates for a question of {QUESTION_TOKENS} tokens and answers of up to {ANSWER_TOKENS}, "
            "as if all models wrote equally fast.",
            style="dim",
        )
    )
    for line in _warn_of_gains(config):
        console.print(Text(line, style="yellow"), soft_wrap=True)
    if _wait_with_tools(config):
        console.print(Text(_WAITS, style="dim"))
    failed = {name: found for name, found in probed.items() if isinstance(found, StairstreamError)}
    for name, error in failed.items():
        raise type(error)(f"model {name!r}: {error}") from error


def _wait_with_tools(config: Config) -> bool:
    """Whether tools would make a pipeline wait that does not wait without them."""
    updating = (one for one in config.pipelines.values() if one.policy_name != "wait")
    graphs = (build_graph(config.models, one) for one in updating)
    return any(graph.agent(graph.answer).reads for graph in graphs)


async def _probe_all(config: Config) -> dict[str, Probed | StairstreamError]:
    found: dict[str, Probed | StairstreamError] = {}
    for name, model in config.models.items():
        # one engine at a time: two that are loaded at once would slow each other down
        async with open_engines(config, (), show_loading) as engines:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    found[name] = await _probe(engines, model)
            except TimeoutError:
                found[name] = BackendError(f"no answer within {_PATIENCE_S:g} s")
            except (BackendError, ConfigError, MissingExtra) as exc:
                found[name] = exc
    return found


async def _probe(engines: Engines, model: ModelConfig) -> Probed:
    """Two small calls as an aggregator makes them: the second reads more and continues the first's words."""
    backend = await engines.make_backend(model)
    await _settle(backend)
    agent = Agent(name="check", model=model.name, reads=("draft",), sampling=Sampling(max_tokens=2 * _TRY_TOKENS))
    loop = asyncio.get_running_loop()
    session = await backend.open(agent, question(_QUESTION))
    try:
        await session.warm()
        await session.read([Chunk(agent="draft", text=_DRAFT, is_final=False)])
        start_s = loop.time()
        _, first_s, _ = await _write(session)
        await session.read([Chunk(agent="draft", text=", blue.", is_final=True)])
        began, _, ended = await _write(session)
    finally:
        await session.aclose()
    counts_cached = ended is not None and ended.usage is not None and ended.usage.cached_tokens is not None
    return Probed(layout=began.layout, why=began.why, first_token_s=first_s - start_s, counts_cached=counts_cached)


async def _settle(backend: Backend) -> None:
    """Probe an endpoint anew, whatever was found out earlier."""
    from stairstream.backends.endpoint_backend import EndpointBackend

    if isinstance(backend, EndpointBackend):
        await backend.settle(is_fresh=True)


async def _write(session: Session) -> tuple[Began, float, Ended | None]:
    """The beginning and the end of a small write, and the time of its first token (of its end, if none came)."""
    loop = asyncio.get_running_loop()
    began: Began | None = None
    first_s: float | None = None
    ended: Ended | None = None
    async with aclosing(session.write(_TRY_TOKENS)) as items:
        async for item in items:
            match item:
                case Began():
                    began = item
                case Delta() if first_s is None:
                    first_s = loop.time()
                case Ended():
                    ended = item
                case _:
                    pass
    assert began is not None, "a session begins each write with Began"
    return began, first_s if first_s is not None else loop.time(), ended


def _show_models(console: Console, config: Config, probed: Mapping[str, Probed | StairstreamError]) -> None:
    width = max(len(name) for name in probed)
    for name, found in probed.items():
        match found:
            case Probed():
                cached = "says what it had cached" if found.counts_cached else "does not say what it had cached"
                what = f"layout {found.layout} ({found.why}), first token {found.first_token_s:.2f} s, {cached}"
            case error:
                what = f"fails: {error}"
        console.print(Text(printable(f"{name:<{width}}  {config.models[name].backend:<8}  {what}")), soft_wrap=True)


def _costs_table(config: Config, probed: Mapping[str, Probed | StairstreamError]) -> Table:
    """Tokens per pipeline and policy; money too, if the file has prices."""
    has_prices = any(model.common.price for model in config.models.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("pipeline")
    table.add_column("policy")
    for head in ("calls", "prompt tokens", "that repeat", "written", *(("price", "if cached") if has_prices else ())):
        table.add_column(head, justify="right")
    for pipeline in config.pipelines.values():
        for name, variant in _variants(config, pipeline).items():
            graph = _with_layouts(build_graph(config.models, variant), probed)
            cost = estimate(graph, config.models, goals_of(variant, graph))
            counts = (cost.calls, cost.prompt_tokens, cost.repeated_tokens, cost.completion_tokens)
            money = (_money(cost.price), _money(cost.cached_price)) if has_prices else ()
            table.add_row(pipeline.name, name, *map(str, counts), *money)
    return table


def _warn_of_gains(config: Config) -> Iterator[str]:
    """A line for each pipeline that answers no sooner than with `wait`, by the speed of its models in earlier runs."""
    rates = Rates().load(config.models)
    for pipeline in config.pipelines.values():
        graph = build_graph(config.models, pipeline)
        if not graph.agent(graph.answer).reads or pipeline.policy_name == "wait":
            continue
        waiting = build_graph(config.models, choose_policy(config, pipeline, "wait", ()))
        found = first_tokens_s(adapt_agents(graph, rates, goals_of(pipeline, graph)), waiting, rates)
        if found is not None and found[1] - found[0] < SHARE * found[1]:
            yield (
                f"{pipeline.name}: as fast as its models were in earlier runs, {pipeline.policy_name} gives the first "
                f"token after {found[0]:.2f} s, wait after {found[1]:.2f} s: use `wait` or a single model"
            )


def _variants(config: Config, pipeline: PipelineConfig) -> dict[str, PipelineConfig]:
    graph = build_graph(config.models, pipeline)
    model = graph.agent(graph.answer).model
    alone = PipelineConfig(name=pipeline.name, keys=SingleKeys(model=model))
    if not graph.agent(graph.answer).reads:
        return {f"{model} alone": alone}
    waiting = choose_policy(config, pipeline, "wait", ())
    return {pipeline.policy_name: pipeline, "wait": waiting, f"{model} alone": alone}


def _with_layouts(graph: Graph, probed: Mapping[str, Probed | StairstreamError]) -> Graph:
    """The graph with the layouts that its agents will get."""
    agents = []
    for agent in graph.agents:
        found = probed.get(agent.model)
        layout = found.layout if isinstance(found, Probed) and agent.layout is None else agent.layout
        agents.append(replace(agent, layout=layout))
    return replace(graph, agents=tuple(agents))


def _money(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")
