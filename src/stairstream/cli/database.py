"""The group `database`: check, upgrade and move a server's database. `server_database` does its work."""

from typing import Annotated

import typer

from stairstream.cli.keys import DatabaseOption, ServerOption

database_app = typer.Typer(
    name="database",
    help="The database of a server: check it, upgrade it, prune it, or copy a SQLite file into PostgreSQL.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@database_app.callback(invoke_without_command=True)
def options(context: typer.Context) -> None:
    """The database of a server: check it, upgrade it, prune it, or copy a SQLite file into PostgreSQL."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@database_app.command("check")
def check_command(config: ServerOption = None, database: DatabaseOption = None) -> None:
    """Say whether a database can be used, its version, and what it holds. Nothing is changed."""
    from stairstream.cli.server_database import check_database

    check_database(config, database)


@database_app.command("migrate")
def migrate_command(config: ServerOption = None, database: DatabaseOption = None) -> None:
    """Upgrade a database to this version, or make its tables; a server does so when it starts."""
    from stairstream.cli.server_database import migrate_database

    migrate_database(config, database)


@database_app.command("prune")
def prune_command(config: ServerOption = None, database: DatabaseOption = None) -> None:
    """Delete journals and past runs that are older than --config keeps them; a server does so from time to time."""
    from stairstream.cli.server_database import prune_database

    prune_database(config, database)


@database_app.command("copy")
def copy_command(
    source: Annotated[str, typer.Argument(metavar="FILE", help="The SQLite file; no server may be writing to it.")],
    config: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Copy all that a SQLite file holds into the PostgreSQL of --config or --database, which must hold nothing.

    All of it is copied, or nothing. The file stays as it is.
    """
    from stairstream.cli.server_database import copy_database

    copy_database(source, config, database)
