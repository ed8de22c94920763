"""`stairstream train`: a training run by its configuration, or a look at what it would learn."""

import importlib.util
import sys
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.text import Text

from stairstream.backends.torch.backend import find_torch_model
from stairstream.cli.eval_output import tell
from stairstream.cli.terminal import printable
from stairstream.core.errors import ConfigError, MissingExtra
from stairstream.train.config import TrainConfig, load_train_config

_NEEDED = ("torch", "transformers", "gguf")


def train(file: Path, *, dry_run: bool, num_samples: int) -> None:
    """Train as a configuration says. Raises ConfigError for what can't be, before a model is loaded."""
    config = load_train_config(file)
    check_installed()
    if dry_run:
        show_samples(config, num_samples)
        return
    raise ConfigError("only --dry-run is there yet")


def check_installed() -> None:
    """Raise MissingExtra where what training needs is not there."""
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"train needs {package}; install it with: pip install 'stairstream[train]'")


def show_samples(config: TrainConfig, num_samples: int) -> None:
    """The first samples of every stage as text: what is learned is green, or between [[ and ]] where nothing shines."""
    from stairstream.backends.torch.load import read_tokens
    from stairstream.train.data import Place, Stream, split_prompts

    tokens = read_tokens(find_torch_model(config.model))
    split = split_prompts(config)
    console = Console(highlight=False, soft_wrap=True)
    tell(f"{len(split.trained)} prompts to train on, {len(split.held_out)} held out")
    for stage in config.stages:
        for drawn in islice(Stream(config, stage, split, tokens).samples(Place()), num_samples):
            policy = drawn.reading.policy
            how = "alone" if policy is None else f"{drawn.reading.layout}, {_say(policy.first_chunk, policy.growth)}"
            head = f"{stage.name}: {drawn.prompt_id}, {how}, "
            head += f"{len(drawn.sample.ids)} tokens, {drawn.sample.num_trained} learned"
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
