"""`stairstream demo`: one question three times (a staircase, waiting, the single model), drawn as it happens."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from rich.console import Console
from rich.text import Text

from stairstream.api import Pipeline, choose_policy
from stairstream.backends.models import KNOWN_MODELS
from stairstream.cli.compare import compare
from stairstream.cli.live import Shown, show_run
from stairstream.cli.picture import LEGEND
from stairstream.cli.terminal import fetch_with_bar, show_loading
from stairstream.config.build import build_graph, open_backends
from stairstream.config.schema import Config, LlamaCppKeys, MixtureKeys, PipelineConfig, SingleKeys, load_config
from stairstream.core.errors import ConfigError, RequestError
from stairstream.core.graph import Graph


def demo(question: str, *, config: Path | None, pipeline: str | None, max_tokens: int) -> None:
    """Fetch what is missing, then run and draw all three, then compare them."""
    if not question.strip():
        raise RequestError("the question is empty")
    settings = load_config(config)
    chosen = settings.pipeline(pipeline)
    if not isinstance(chosen.keys, MixtureKeys):
        raise ConfigError(f"pipeline {chosen.name!r} is a single model; the demo compares a mixture with one")
    for name in chosen.models:
        keys = settings.models[name].keys
        if isinstance(keys, LlamaCppKeys) and keys.model in KNOWN_MODELS:
            fetch_with_bar(keys.model)
    asyncio.run(_demo(settings, _variants(chosen, chosen.keys), question.strip(), max_tokens))


def _variants(mix: PipelineConfig, keys: MixtureKeys) -> dict[str, PipelineConfig]:
    """The three, each under its title."""
    alone = replace(mix, name="single", keys=SingleKeys(model=keys.aggregator))
    return {mix.policy_name: mix, "wait": choose_policy(mix, "wait", ()), "single model": alone}


def _describe(title: str, pipeline: PipelineConfig) -> str:
    match pipeline.keys:
        case SingleKeys() as keys:
            return f"{keys.model} answers alone"
        case MixtureKeys() as keys if title == "wait":
            return f"{keys.aggregator} waits until all {len(keys.proposers)} proposers are done"
        case MixtureKeys() as keys:
            first_chunk = f"{pipeline.policy.first_chunk:g}"
            return f"{keys.aggregator} begins after {first_chunk} tokens of the proposers and reads on while it speaks"
        case never:
            assert_never(never)


async def _demo(config: Config, variants: Mapping[str, PipelineConfig], question: str, max_tokens: int) -> None:
    console = Console(highlight=False)
    graphs = {title: _limit(build_graph(config, variant), max_tokens) for title, variant in variants.items()}
    console.print(Text.assemble(("question  ", "dim"), (question, "bold")))
    console.print(Text(LEGEND, style="dim"))
    shown: dict[str, Shown] = {}
    async with open_backends(config, list(graphs.values()), show_loading) as backends:
        for title, variant in variants.items():
            console.print()
            console.rule(Text.assemble((title, "bold"), f"  {_describe(title, variant)}"), align="left", style="dim")
            least_s = max((one.scale_s for one in shown.values()), default=0.0)
            shown[title] = await show_run(console, Pipeline(variant, graphs[title], backends), question, least_s)
    compare(console, shown)


def _limit(graph: Graph, max_tokens: int) -> Graph:
    agents = (
        replace(agent, sampling=replace(agent.sampling, max_tokens=min(max_tokens, agent.sampling.max_tokens)))
        for agent in graph.agents
    )
    return replace(graph, agents=tuple(agents))
