"""`stairstream train`: a training run by its configuration, or a look at what it would learn."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from stairstream.backends.extras import require
from stairstream.backends.models import find_weights
from stairstream.cli.terminal import printable, tell
from stairstream.core.errors import ConfigError
from stairstream.train.config import TrainConfig, load_train_config

if TYPE_CHECKING:
    from stairstream.train.meters import Metrics

_NEEDED = ("torch", "transformers", "gguf")


def train(file: Path, *, dry_run: bool, num_samples: int) -> None:
    """Train as a configuration says. Raises ConfigError for what can't be, before a model is loaded."""
    config = load_train_config(file)
    require("train", _NEEDED, "train")
    if config.lora is not None:
        require("train", ("peft",), "train")
    if dry_run:
        show_samples(config, num_samples)
        return
    if importlib.util.find_spec("fcntl") is None:
        raise ConfigError("train needs POSIX file locks, which this system lacks; run it on Linux, macOS or WSL")
    from stairstream.train.run import train_all

    with open_report() as report:
        is_first = train_all(config, find_weights(config.model), report)
    if is_first:
        tell(f"the trained model is in {config.folder / 'model'}")


@contextmanager
def open_report() -> "Iterator[Callable[[Metrics], None]]":
    """A bar per stage on standard error; lines where there is no terminal to draw it in."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda metrics: tell(f"{metrics.stage} {metrics.progress:4.0%}  {say_metrics(metrics)}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}"))
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bars:

        def show(metrics: "Metrics") -> None:
            if metrics.stage not in tasks:
                tasks[metrics.stage] = bars.add_task(metrics.stage, total=1.0, said="")
            bars.update(tasks[metrics.stage], completed=metrics.progress, said=say_metrics(metrics))

        yield show


def say_metrics(metrics: "Metrics") -> str:
    """The numbers of a train step in one line."""
    parts = [
        f"step {metrics.step}",
        f"loss {metrics.loss:.4f}",
        f"{metrics.tokens_per_s:,.0f} tokens/s",
        f"MFU {metrics.mfu:.0%}",
        f"{metrics.memory_gib:.1f} GiB",
    ]
    if metrics.left_s is not None:
        parts.append(f"{timedelta(seconds=round(metrics.left_s))} left")
    return "  ".join(parts)


def show_samples(config: TrainConfig, num_samples: int) -> None:
    """The first samples of every stage as text: what is learned is green, or between [[ and ]] where nothing shines."""
    from stairstream.backends.torch.load import read_tokens
    from stairstream.train.data import Place, Stream, split_prompts

    tokens = read_tokens(find_weights(config.model))
    split = split_prompts(config)
    console = Console(highlight=False, soft_wrap=True)
    tell(f"{len(split.trained)} prompts to train on, {len(split.held_out)} held out")
    for stage in config.stages:
        for drawn in islice(Stream(config, stage, split, tokens).samples(Place()), num_samples):
            policy = drawn.reading.policy
            how = "alone" if policy is None else f"{drawn.reading.layout}, {_say(policy.first_chunk, policy.growth)}"
            head = f"{stage.name}: {drawn.prompt_id}, {how}, "
            head += f"{len(drawn.sample.ids)} tokens, {len(drawn.sample.learned)} learned"
            console.print(Text(printable(head), style="bold"))
            console.print(_colour(tokens.spell_runs(drawn.sample.ids, drawn.sample.is_trained)))


def _say(first_chunk: float, growth: float) -> str:
    return f"first_chunk {first_chunk:g}, growth {growth:g}"


def _colour(runs: list[tuple[str, bool]]) -> Text:
    found, is_plain = Text(), not sys.stdout.isatty()
    for text, is_trained in runs:
        shown = "\n".join(printable(line) for line in text.split("\n"))
        found.append(f"[[{shown}]]" if is_trained and is_plain else shown, style="green" if is_trained else "dim")
    return found
