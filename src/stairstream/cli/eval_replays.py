"""The part that commands share which replay proposals: the engine that the aggregator runs on."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from stairstream.backends.extras import require_all
from stairstream.cli.terminal import show_loading, tell
from stairstream.config.reading import nearest
from stairstream.core.errors import ConfigError
from stairstream.core.session import AskedLayout
from stairstream.eval.identity import identify_models
from stairstream.eval.kept import Kept
from stairstream.eval.replay import AGGREGATOR, Replays, Spoken, configure, open_aggregator
from stairstream.sim.clock import run as run_in_virtual_time

if TYPE_CHECKING:
    from stairstream.backends.in_process.networks import Dtype
    from stairstream.backends.torch.load import Loaded

Engine = Literal["torch", "llamacpp"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
CAN: Mapping[Engine, tuple[AskedLayout, ...]] = {
    "torch": ("insert", "grouped", "rounds", "regrouped"),
    "llamacpp": ("grouped", "quoted", "rounds", "regrouped"),
}
"""The layouts that an engine can do, its default first; torch continues from its own token ids, so it
never quotes."""
ENGINE_PACKAGES: Mapping[Engine, tuple[str, ...]] = {
    "torch": ("torch", "transformers", "gguf"),
    "llamacpp": ("xllamacpp",),
}
T = TypeVar("T")


def read_engine(name: str) -> Engine:
    """The engine of that name. Raises ConfigError, and MissingExtra if it is not installed."""
    for engine in ENGINES:
        if engine == name:
            check_engine(engine)
            return engine
    raise ConfigError(f"--backend: {name!r} is not one{nearest(name, ENGINES)}")


def check_engine(engine: Engine) -> None:
    """Raises MissingExtra, which names all that is missing, if it or what computes intervals is not installed."""
    extra = "torch" if engine == "torch" else "local"
    require_all(f"eval on {engine}", {extra: ENGINE_PACKAGES[engine], "eval": ("scipy",)})


def identify(engine: Engine, model: str) -> object:
    """The settings that answers depend on besides what is asked. Raises ConfigError if there is no such model."""
    return identify_models(configure(engine, model).models, [AGGREGATOR])


def run_replays(
    engine: Engine, model: str, threads: int | None, kept: Kept[Spoken], work: Callable[[Replays], Awaitable[T]]
) -> T:
    """Do work with replays on an engine, in virtual time."""
    identity = identify(engine, model)

    async def main() -> T:
        with show_loading(model):
            opening = open_aggregator(configure(engine, model, threads))
            backend = await opening.__aenter__()
        try:
            return await work(Replays(backend, kept, identity))
        finally:
            await opening.__aexit__(None, None, None)

    return run_in_virtual_time(main())


def load_torch(file: Path, dtype: "Dtype", threads: int | None) -> "Loaded":
    """A model in memory, without a backend around it: for teacher forcing. Says in a line if it will be slow here."""
    import torch

    from stairstream.backends.in_process.products import times_slower
    from stairstream.backends.torch.load import load

    if threads is not None:
        torch.set_num_threads(threads)
    if (times := times_slower(dtype)) is not None:
        tell(f"this CPU multiplies {dtype} {times:.1f} times as slowly as float32")
    return load(file, dtype)
