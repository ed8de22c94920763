"""`stairstream train`: a training run by its configuration, or a look at what it would learn."""

import importlib.util
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from stairstream.backends.extras import require, require_all
from stairstream.backends.models import find_weights
from stairstream.cli.terminal import printable, show_waiting, tell
from stairstream.core.errors import ConfigError
from stairstream.train.config import TrainConfig, load_train_config

if TYPE_CHECKING:
    from stairstream.backends.in_process.tokens import Tokens
    from stairstream.train.data import Stream
    from stairstream.train.forecast import Forecast
    from stairstream.train.meters import Metrics, Report
    from stairstream.train.outlook import Outlook

_NEEDED = ("torch", "transformers", "gguf")


def train(file: Path, *, dry_run: bool, num_samples: int) -> None:
    """Train as a configuration says. Raises ConfigError for what can't be, before a model is loaded."""
    config = load_train_config(file)
    require("train", _NEEDED, "train")
    if config.lora is not None:
        require("train", ("peft",), "train")
    if dry_run:
        show_plan(config, num_samples)
        return
    if importlib.util.find_spec("fcntl") is None:
        raise ConfigError("train needs POSIX file locks, which this system lacks; run it on Linux, macOS or WSL")
    from stairstream.train.failures import EXIT_AGAIN, HOW_TO_CONTINUE, PeerLost
    from stairstream.train.run import train_all

    try:
        with open_report() as report:
            outcome = train_all(config, find_weights(config.model), report)
    except PeerLost as exc:
        tell(f"stairstream: error: {exc}")
        raise typer.Exit(EXIT_AGAIN) from exc
    if outcome.stopped_by is not None:
        if outcome.is_first:
            tell(f"stopped by {outcome.stopped_by}, and saved; {HOW_TO_CONTINUE}")
        raise typer.Exit(EXIT_AGAIN)
    if outcome.is_first:
        tell(f"the trained model is in {config.folder / 'model'}")


def train_on(file: Path) -> None:
    """Train as a job on a Ray cluster. Raises ConfigError for what can't be, before anything is started."""
    config = load_train_config(file)
    require_all("train --on ray", {"train": _NEEDED, "ray-train": ("ray", "pyarrow")})
    from stairstream.cluster.training import train_on_ray

    train_on_ray(file, config.folder, config.parallel.num_processes)
    tell(f"the trained model is in {config.folder / 'model'}")


@contextmanager
def open_report() -> "Iterator[Report]":
    """A bar per stage on standard error; lines where there is no terminal to draw it in."""
    from stairstream.train.meters import Report

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Report(
            step=lambda metrics: tell(f"{metrics.stage} {metrics.progress:4.0%}  {say_metrics(metrics)}"), say=tell
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}"))
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bars:

        def show(metrics: "Metrics") -> None:
            if metrics.stage not in tasks:
                tasks[metrics.stage] = bars.add_task(metrics.stage, total=1.0, said="")
            bars.update(tasks[metrics.stage], completed=metrics.progress, said=say_metrics(metrics))

        yield Report(step=show, say=lambda line: bars.console.print(Text(printable(line))))


def say_metrics(metrics: "Metrics") -> str:
    """The numbers of a train step in one line."""
    parts = [
        f"step {metrics.step}",
        "skipped" if metrics.is_skipped else f"loss {metrics.loss:.4f}",
        f"{metrics.tokens_per_s:,.0f} tokens/s",
        f"MFU {metrics.mfu:.0%}",
        f"{metrics.memory_gib:.1f} GiB",
    ]
    if metrics.left_s is not None:
        parts.append(f"{timedelta(seconds=round(metrics.left_s))} left")
    return "  ".join(parts)


def show_plan(config: TrainConfig, num_samples: int) -> None:
    """The first samples of every stage, and what the run will take."""
    from stairstream.backends.in_process.networks import read_tokens
    from stairstream.train.data import Stream, split_prompts
    from stairstream.train.forecast import foretell
    from stairstream.train.outlook import look_ahead

    path = find_weights(config.model)
    with show_waiting("reading the data"):
        tokens, split = read_tokens(path), split_prompts(config)
    tell(f"{len(split.trained)} prompts to train on, {len(split.held_out)} held out")
    streams = [Stream(config, stage, split, tokens) for stage in config.stages]
    show_samples(config, streams, tokens, num_samples)
    with show_waiting("planning"):
        outlooks = [look_ahead(stream, stage) for stream, stage in zip(streams, config.stages, strict=True)]
        forecast = foretell(config, path, outlooks)
    for line in say_forecast(config, forecast, outlooks):
        print(line)


def show_samples(config: TrainConfig, streams: "Sequence[Stream]", tokens: "Tokens", num_samples: int) -> None:
    """Samples as text: what is learned is green, or between [[ and ]] where nothing shines."""
    from stairstream.train.data import Cursor

    console = Console(highlight=False, soft_wrap=True)
    for stage, stream in zip(config.stages, streams, strict=True):
        for drawn in islice(stream.samples(Cursor()), num_samples):
            policy = drawn.reading.policy
            how = "alone" if policy is None else f"{drawn.reading.layout}, {_say(policy.first_chunk, policy.growth)}"
            head = f"{stage.name}: {drawn.prompt_id}, {how}, "
            head += f"{len(drawn.sample.ids)} tokens, {len(drawn.sample.learned)} learned"
            console.print(Text(printable(head), style="bold"))
            console.print(_colour(tokens.spell_runs(drawn.sample.ids, drawn.sample.is_trained)))


def say_forecast(config: TrainConfig, forecast: "Forecast", outlooks: "Sequence[Outlook]") -> list[str]:
    """A forecast in lines."""
    count, found, needs = config.parallel.num_processes, forecast.parameters, forecast.needs
    lines = [
        f"Plan for {count} process{'es' * (count > 1)}, each on: {forecast.device}",
        f"parameters: {found.total / 1e6:,.1f} M, of which {found.learning / 1e6:,.1f} M learn; "
        f"{found.per_process / 1e6:,.1f} M in each process",
    ]
    lines += forecast.notes
    for number, one in enumerate(outlooks):
        steps = f"{'' if one.is_exact else 'about '}{one.steps:,} train steps"
        took = f", {_say_time(needs.stage_s[number])}" if needs else ""
        lines.append(f"stage {one.stage.name}: {steps} of {one.tokens:,.0f} tokens, {one.trained:,.0f} learned{took}")
    if needs is None:
        return [*lines, f"memory, time and energy are not estimated: {forecast.why}"]
    limit = f" of {needs.budget_bytes / 2**30:.1f}" if math.isfinite(needs.budget_bytes) else ""
    total_s = sum(needs.stage_s)
    return [
        *lines,
        f"memory: {needs.most_bytes / 2**30:.1f}{limit} GiB in each process at the largest row that was looked at, "
        f"with {needs.share_again:.0%} of the layers computed again",
        f"time: {_say_time(total_s)}, by the speed of one layer's passes, measured now; without the optimizer's work, "
        "what processes exchange, and checkpoints",
        f"energy: {total_s * count * forecast.watts / 3.6e6:.2g} kWh, if each process draws {forecast.watts:.0f} W "
        "(a GPU: what its maker says; a CPU: 10 W for each thread) all that time; not measured",
    ]


def _say_time(seconds: float) -> str:
    return f"about {timedelta(seconds=round(seconds))}"


def _say(first_chunk: float, growth: float) -> str:
    return f"first_chunk {first_chunk:g}, growth {growth:g}"


def _colour(runs: list[tuple[str, bool]]) -> Text:
    found, is_plain = Text(), not sys.stdout.isatty()
    for text, is_trained in runs:
        shown = "\n".join(printable(line) for line in text.split("\n"))
        found.append(f"[[{shown}]]" if is_trained and is_plain else shown, style="green" if is_trained else "dim")
    return found
