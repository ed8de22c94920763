"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer


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
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NUMBER=VALUE", help="Change one number of the policy, as in first_chunk=16."),
]
