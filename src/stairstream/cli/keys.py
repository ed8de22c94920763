"""The group `keys`: who may call a server. Each command parses here; `server_keys` does its work."""

from pathlib import Path
from typing import Annotated

import typer

from stairstream.cli.options import config_option

keys_app = typer.Typer(
    name="keys",
    help="Keys of a server: make, list and revoke them.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ServerOption = Annotated[
    Path | None,
    config_option("The server's YAML file, which may name the database; create makes that if it is missing."),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="DATABASE",
        help="The server's database, a file or a postgresql:// URL, if not the one of --config; it must exist.",
    ),
]


@keys_app.callback(invoke_without_command=True)
def options(context: typer.Context) -> None:
    """Keys of a server: make, list and revoke them."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@keys_app.command("create")
def create_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, for lists and logs.")],
    config: ServerOption = None,
    database: DatabaseOption = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Runs begun per minute; unlimited without it.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, help="Tokens per minute, of all agents; unlimited without it."),
    ] = None,
    concurrent_runs: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Runs at once; unlimited without it.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="MONEY", min=0, help="What it may cost, by the prices in --config; unlimited without it."),
    ] = None,
    period: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the budget is for: total (without it), month or day.")
    ] = None,
) -> None:
    """Make a key. It is printed this once; only its hash is kept."""
    from stairstream.cli.server_keys import create_key

    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_runs": concurrent_runs,
        "budget": budget,
        "period": period,
    }
    create_key(name, {key: value for key, value in limits.items() if value is not None}, config, database)


@keys_app.command("list")
def list_command(
    config: ServerOption = None,
    database: DatabaseOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List keys with their limits, and what each has used."""
    from stairstream.cli.server_keys import list_keys

    list_keys(config, database, as_json=as_json)


@keys_app.command("revoke")
def revoke_command(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows.")],
    config: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Take a key out of use; servers that run know within a second."""
    from stairstream.cli.server_keys import revoke_key

    revoke_key(key_id, config, database)
