"""`stairstream demo`: one question three times (a staircase, waiting, the single model), drawn as it happens."""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stairstream.api import Pipeline
from stairstream.backends.extras import require
from stairstream.backends.models import KNOWN_MODELS
from stairstream.cli.compare import compare
from stairstream.cli.fetching import fetch_with_bar
from stairstream.cli.live import Shown, show_lanes, show_run
from stairstream.cli.picture import LEGEND
from stairstream.cli.terminal import show_loading
from stairstream.config.backends.llamacpp import LlamaCppKeys
from stairstream.config.build import open_backends
from stairstream.config.choosing import choose_policy
from stairstream.config.graphs import build_graph, models_of, shorten_answers
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.policies import ADAPTIVE, NAMES
from stairstream.config.schema import Config, load_config, parse_config
from stairstream.config.topologies import SingleKeys
from stairstream.core.errors import ConfigError, RequestError
from stairstream.core.graph import Graph
from stairstream.sim.clock import run as run_in_virtual_time

SIMULATED = """\
models:
  ada: &hosted {backend: scripted, length: 300, first_token_s: 0.2, token_s: 0.02, prefill_tokens_per_s: 5000}
  ben: *hosted
  cleo: *hosted
  dora: *hosted
pipelines:
  mix: {topology: mixture, proposers: [ada, ben, cleo], aggregator: dora}
"""
SIMULATED_NOTE = (
    "Simulated: scripted models at the speed of hosted endpoints (0.2 s to a first token, then 50 a second), "
    "on the real engine in virtual time."
)
MAX_TOKENS = 200
"""The longest answer of each agent: a whole one takes minutes on a laptop."""
LOCAL_NOTE = "All models share this machine's processor, so each is slower the more of them write at once."


def demo(
    question: str, *, config: Path | None, pipeline: str | None, max_tokens: int | None, is_simulated: bool
) -> None:
    """Fetch what is missing, then run and draw all three, then compare them.

    `max_tokens` is the longest answer of each agent.
    """
    if not question.strip():
        raise RequestError("the question is empty")
    if is_simulated:
        if config is not None or pipeline is not None:
            raise RequestError("--simulated has models of its own; leave --config and --pipeline out")
        _simulate(question.strip(), max_tokens)
        return
    settings = load_config(config)
    chosen = settings.pipeline(pipeline)
    graph = build_graph(settings.models, chosen)
    if not graph.agent(graph.answer).reads:
        raise ConfigError(f"pipeline {chosen.name!r} is a single model; the demo compares agents that read with one")
    embedded = [keys for name in models_of(graph) if isinstance(keys := settings.models[name].keys, LlamaCppKeys)]
    if embedded:
        require("the demo's embedded model", ["xllamacpp"], "local")
    for keys in embedded:
        if keys.model in KNOWN_MODELS:
            fetch_with_bar(keys.model)
    asyncio.run(_demo(settings, variants(settings, chosen, graph), question.strip(), max_tokens or MAX_TOKENS))


def variants(config: Config, chosen: PipelineConfig, graph: Graph) -> dict[str, PipelineConfig]:
    """The pipeline, the same with waiting, and the answering model alone, each under its title."""
    model = graph.agent(graph.answer).model
    alone = PipelineConfig(name="single", keys=SingleKeys(model=model), limits=chosen.limits)
    waiting = choose_policy(config, chosen, "wait", ())
    own = chosen.policy_name if chosen.policy_name in NAMES else "staircase"
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
    if not any(config.models[name].is_remote for graph in graphs.values() for name in models_of(graph)):
        console.print(Text(LOCAL_NOTE, style="dim"))
    shown: dict[str, Shown] = {}
    async with open_backends(config, list(graphs.values()), show_loading) as backends:
        for title, variant in variants.items():
            _print_title(console, title, graphs[title])
            pipeline = Pipeline(variant, graphs[title], backends, config)
            shown[title] = await show_run(console, pipeline, question, _scale_s(shown))
    compare(console, shown)


def _simulate(question: str, max_tokens: int | None) -> None:
    """The same pictures without a model, at once."""
    console = Console(highlight=False)
    config = parse_config(SIMULATED, "the simulated models")
    chosen = config.pipeline()
    console.print(Text(SIMULATED_NOTE, style="bold"))
    console.print(Text(LEGEND, style="dim"))
    shown: dict[str, Shown] = {}
    for title, variant in variants(config, chosen, build_graph(config.models, chosen)).items():
        graph = build_graph(config.models, variant)
        graph = shorten_answers(graph, max_tokens) if max_tokens else graph
        _print_title(console, title, graph)
        shown[title] = run_in_virtual_time(_play(config, variant, graph, console, question, _scale_s(shown)))
    compare(console, shown)


async def _play(
    config: Config, variant: PipelineConfig, graph: Graph, console: Console, question: str, least_scale_s: float
) -> Shown:
    async with open_backends(config, [graph]) as backends:
        return await show_lanes(console, Pipeline(variant, graph, backends, config), question, least_scale_s)


def _print_title(console: Console, title: str, graph: Graph) -> None:
    console.print()
    console.rule(Text.assemble((title, "bold"), f"  {_describe(graph, title)}"), align="left", style="dim")


def _scale_s(shown: Mapping[str, Shown]) -> float:
    return max((one.scale_s for one in shown.values()), default=0.0)
