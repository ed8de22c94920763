"""Options that several commands have."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

T = TypeVar("T")


def with_options(kind: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Make a function of a dataclass into a command: each field of the dataclass is an option, said there and nowhere
    else."""

    def make(work: Callable[[T], None]) -> Callable[..., None]:
        @wraps(work)
        def command(**given: Any) -> None:
            work(kind(**given))

        command.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
        return command

    return make


def option(metavar: str, text: str) -> Any:
    """An option that takes a value."""
    return typer.Option(metavar=metavar, help=text)


def config_option(text: str) -> Any:
    """The option for the configuration, and what of it is wanted."""
    return typer.Option("--config", "-c", metavar="FILE", envvar="STAIRSTREAM_CONFIG", help=text, show_default=False)


ConfigOption = Annotated[
    Path | None,
    config_option("A YAML file with models and pipelines; without it, the built-in one with the embedded model."),
]
PipelineOption = Annotated[
    str | None,
    typer.Option("--pipeline", "-p", metavar="NAME", help="Which pipeline; without it, the first of the file."),
]
PolicyOption = Annotated[
    str | None,
    typer.Option("--policy", metavar="NAME", help="Another policy: paper, balanced, cheap, careful, wait or adaptive."),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file with the API key; without it, the environment's STAIRSTREAM_API_KEY."),
]
SystemOption = Annotated[str | None, typer.Option(metavar="TEXT", help="A system message before the question.")]
PaceOption = Annotated[
    Literal["even", "raw"] | None,
    typer.Option(help="Show the words evenly, or each when it is written; without it, as the pipeline says."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NUMBER=VALUE", help="Change one number of the policy, as in first_chunk=16."),
]
