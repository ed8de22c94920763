"""`stairstream demo`: one question three times (a staircase, waiting, the single model), drawn as it happens."""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stairstream.api import Pipeline, choose_policy
from stairstream.backends.models import KNOWN_MODELS
from stairstream.cli.compare import compare
from stairstream.cli.fetching import fetch_with_bar
from stairstream.cli.live import Shown, show_run
from stairstream.cli.picture import LEGEND
from stairstream.cli.terminal import show_loading
from stairstream.config.backends.llamacpp import LlamaCppKeys
from stairstream.config.build import open_backends
from stairstream.config.graphs import build_graph, models_of, shorten_answers
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.policies import ADAPTIVE
from stairstream.config.schema import Config, load_config
from stairstream.config.topologies import SingleKeys
from stairstream.core.errors import ConfigError, RequestError
from stairstream.core.graph import Graph


def demo(question: str, *, config: Path | None, pipeline: str | None, max_tokens: int) -> None:
    """Fetch what is missing, then run and draw all three, then compare them."""
    if not question.strip():
        raise RequestError("the question is empty")
    settings = load_config(config)
    chosen = settings.pipeline(pipeline)
    graph = build_graph(settings.models, chosen)
    if not graph.agent(graph.answer).reads:
        raise ConfigError(f"pipeline {chosen.name!r} is a single model; the demo compares agents that read with one")
    for name in models_of(graph):
        keys = settings.models[name].keys
        if isinstance(keys, LlamaCppKeys) and keys.model in KNOWN_MODELS:
            fetch_with_bar(keys.model)
    asyncio.run(_demo(settings, variants(settings, chosen, graph), question.strip(), max_tokens))


def variants(config: Config, chosen: PipelineConfig, graph: Graph) -> dict[str, PipelineConfig]:
    """The pipeline, the same with waiting, and the answering model alone, each under its title."""
    model = graph.agent(graph.answer).model
    alone = PipelineConfig(name="single", keys=SingleKeys(model=model), limits=chosen.limits)
    waiting = choose_policy(config, chosen, "wait", ())
    own = "staircase" if chosen.policy_name == "custom" else chosen.policy_name
    return {own: chosen, "wait": waiting, "single model": alone}


def _describe(graph: Graph, title: str) -> str:
    agent = graph.agent(graph.answer)
    if not agent.reads:
        return f"{agent.model} answers alone"
    if agent.policy.first_chunk == math.inf:
        return f"{agent.name} waits until all that it reads is there"
    first_chunk = "a few" if title == ADAPTIVE else f"{agent.policy.first_chunk:g}"
    return f"{agent.name} begins after {first_chunk} tokens of those that it reads, and reads on while it speaks"


async def _demo(config: Config, variants: Mapping[str, PipelineConfig], question: str, max_tokens: int) -> None:
    console = Console(highlight=False)
    graphs = {
        title: shorten_answers(build_graph(config.models, variant), max_tokens) for title, variant in variants.items()
    }
    console.print(Text.assemble(("question  ", "dim"), (question, "bold")))
    console.print(Text(LEGEND, style="dim"))
    shown: dict[str, Shown] = {}
    async with open_backends(config, list(graphs.values()), show_loading) as backends:
        for title, variant in variants.items():
            console.print()
            console.rule(
                Text.assemble((title, "bold"), f"  {_describe(graphs[title], title)}"), align="left", style="dim"
            )
            least_s = max((one.scale_s for one in shown.values()), default=0.0)
            shown[title] = await show_run(
                console, Pipeline(variant, graphs[title], backends, config), question, least_s
            )
    compare(console, shown)
