"""Runs the topologies of docs/topologies.md and writes drawings and numbers into it, between its markers.

python docs/draw.py              scripted models in virtual time, then the embedded model if it is in the cache
python docs/draw.py --scripted   only the former; drawings of the embedded model stay as they are
python docs/draw.py mixture tree   only these topologies
"""

import argparse
import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from stairstream.api import Pipeline
from stairstream.backends.models import DEFAULT_MODEL, is_fetched
from stairstream.cli.picture import draw_run
from stairstream.config.backends.scripted import ScriptedKeys
from stairstream.config.build import open_backends
from stairstream.config.choosing import choose_policy
from stairstream.config.graphs import build_graph
from stairstream.config.schema import Config, read_config
from stairstream.core.events import Event
from stairstream.core.metrics import Summary, summarize
from stairstream.sim.clock import run as run_in_virtual_time

PAGE = Path(__file__).parent / "topologies.md"
QUESTION = "Why is the sky blue?"
COLUMNS = 100
TEXT = "\n".join(f"{i}. Sunlight holds every colour at once. Small things scatter the blue." for i in range(1, 17))
SCRIPT = ScriptedKeys(text=TEXT, first_token_s=0.3, token_s=0.02, prefill_tokens_per_s=3000)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_RUNS = re.compile(r"(<!-- runs: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One pipeline as it ran: its drawing, its numbers, and those of the same with waiting (None: it reads nobody)."""

    drawing: str
    policy: str
    summary: Summary
    waiting: Summary | None


def blocks_of(page: str, language: str) -> list[str]:
    """The page's code blocks in that language, in order."""
    return [found[2] for found in _BLOCK.finditer(page) if found[1] == language]


def merge_yaml(blocks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The page's YAML blocks as the one file that they are."""
    merged: dict[str, dict[str, Any]] = {}
    for block in blocks:
        for key, entries in yaml.safe_load(block).items():
            merged.setdefault(key, {}).update(entries)
    return merged


def with_scripts(config: Config) -> Config:
    """The same file with a scripted model in place of each."""
    return replace(config, models={name: replace(model, keys=SCRIPT) for name, model in config.models.items()})


async def show(config: Config, name: str) -> Shown:
    """Run a pipeline, and the same with waiting."""
    pipeline = config.pipeline(name)
    graph = build_graph(config.models, pipeline)
    has_readers = any(agent.reads for agent in graph.agents)
    async with open_backends(config, [graph]) as backends:
        events = await _run(Pipeline(pipeline, graph, backends, config))
        waiting = None
        if has_readers:
            waits = choose_policy(config, pipeline, "wait", ())
            waiting = summarize(await _run(Pipeline(waits, build_graph(config.models, waits), backends, config)))
    drawing = "\n".join(line.plain.rstrip() for line in draw_run(graph, events, COLUMNS))
    return Shown(drawing=drawing, policy=pipeline.policy_name, summary=summarize(events), waiting=waiting)


async def _run(pipeline: Pipeline) -> list[Event]:
    async with pipeline.open_run(QUESTION) as run:
        return [event async for event in run.events()]


def write_up(title: str, shown: Shown) -> str:
    """The drawing and a table, below a line that names the models."""
    rows = {f"`{shown.policy}`": shown.summary} if shown.waiting else {"alone": shown.summary}
    if shown.waiting:
        rows["`wait`"] = shown.waiting
    head = "| | first token | longest gap | total | prompt tokens | seen |\n|---|---|---|---|---|---|"
    table = "\n".join([head, *(_row(name, summary) for name, summary in rows.items())])
    return f"{title}:\n\n```text\n{shown.drawing}\n```\n\n{table}\n"


def _row(name: str, summary: Summary) -> str:
    prompt_tokens = sum(one.usage.prompt_tokens for one in summary.agents)
    seen = "-" if summary.seen_share is None else f"{summary.seen_share:.0%}"
    first = "-" if summary.first_token_s is None else f"{summary.first_token_s:.2f} s"
    times = f"{first} | {summary.longest_gap_s:.2f} s | {summary.total_s:.2f} s"
    return f"| {name} | {times} | {prompt_tokens} | {seen} |"


SCRIPTED, EMBEDDED = "Scripted models", "The embedded model"
Runner = Callable[[Coroutine[Any, Any, Shown]], Shown]


def draw_page(page: str, kinds: Mapping[str, tuple[Config, Runner]], names: Sequence[str] = ()) -> str:
    """The page with new drawings of these kinds of models (of these topologies only); what else is there stays."""

    def renew(found: re.Match[str]) -> str:
        if names and found[2] not in names:
            return found[0]
        parts = {part.partition(":")[0]: part for part in re.split(rf"\n(?={EMBEDDED}:)", found[3].strip()) if part}
        for title, (config, runner) in kinds.items():
            parts[title] = write_up(title, runner(show(config, found[2]))).strip()
        both = "\n\n".join(parts[title].strip() for title in (SCRIPTED, EMBEDDED) if title in parts)
        return f"{found[1]}\n{both}\n\n{found[4]}"

    return _RUNS.sub(renew, page)


def main() -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripted", action="store_true", help="only scripted models")
    parser.add_argument("topologies", nargs="*", help="only these")
    args = parser.parse_args()
    page = PAGE.read_text()
    config = read_config(merge_yaml(blocks_of(page, "yaml")), PAGE.name)
    kinds: dict[str, tuple[Config, Runner]] = {SCRIPTED: (with_scripts(config), run_in_virtual_time)}
    if not args.scripted and is_fetched(DEFAULT_MODEL):
        kinds[EMBEDDED] = (config, asyncio.run)
    PAGE.write_text(draw_page(page, kinds, args.topologies))


if __name__ == "__main__":
    main()
