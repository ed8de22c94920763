"""`stairstream database`: check, upgrade and move a server's database. What each does stands in `server/storage`."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from stairstream.cli.server_keys import find_database
from stairstream.cli.terminal import tell
from stairstream.config.databases import Database, PostgresAddress
from stairstream.config.schema import load_config
from stairstream.core.errors import ConfigError
from stairstream.server.durable.opening import open_journal_store
from stairstream.server.storage.opening import copy_storage, inspect_storage, may_exist, open_storage
from stairstream.server.storage.values import Contents


def check_database(config: Path | None, database: str | None) -> None:
    """Print what a database holds; ConfigError if it can't be used."""
    found, contents = _inspect(config, database)
    print(f"{found}: {_version(contents)}; {_describe(contents.rows)}", flush=True)


def migrate_database(config: Path | None, database: str | None) -> None:
    """Upgrade a database, or make its tables."""
    location = find_database(config, database)
    before = asyncio.run(inspect_storage(location)).version if may_exist(location) else 0

    async def main() -> None:
        async with open_storage(location):
            pass

    asyncio.run(main())
    after = asyncio.run(inspect_storage(location)).version
    said = f"is at version {after} already" if before == after else f"was upgraded from version {before} to {after}"
    tell(f"stairstream: the database {location} {said}")


def copy_database(source: str, config: Path | None, database: str | None) -> None:
    """Copy a SQLite file into an empty PostgreSQL."""
    file, target = Path(source).expanduser(), find_database(config, database)
    if not file.is_file():
        raise ConfigError(f"there is no file {file} to copy")
    if not isinstance(target, PostgresAddress):
        raise ConfigError(f"a SQLite file is copied into a PostgreSQL, and {target} is a file; give --database its URL")
    copied = asyncio.run(copy_storage(file, target))
    tell(f"stairstream: copied {file} into {target}: {_describe(copied)}")


def prune_database(config: Path | None, database: str | None) -> None:
    """Delete what is kept no longer, as a server does from time to time."""
    settings, location = load_config(config).server, _find_existing(config, database)

    async def main() -> tuple[int, int]:
        async with open_journal_store(location) as journals, open_storage(location) as storage:
            num_journals = await journals.prune(settings.journal_hours * 3600)
            oldest_s = time.time() - settings.history_days * 86400
            return num_journals, await storage.prune_runs(oldest_s, round(settings.history_mb * 1e6))

    num_journals, num_runs = asyncio.run(main())
    kept = f"journals are kept for {settings.journal_hours:g} h after the end of their runs, and not for revoked keys"
    print(f"{location}: removed {_number(num_journals, 'journal')} and {_number(num_runs, 'past run')}", flush=True)
    tell(f"stairstream: {kept}; past runs for {settings.history_days:g} days, and up to {settings.history_mb:g} MB")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _inspect(config: Path | None, database: str | None) -> tuple[Database, Contents]:
    location = _find_existing(config, database)
    return location, asyncio.run(inspect_storage(location))


def _find_existing(config: Path | None, database: str | None) -> Database:
    location = find_database(config, database)
    if not may_exist(location):
        raise ConfigError(f"there is no database {location} yet; a server or `keys create` makes it")
    return location


def _version(contents: Contents) -> str:
    if contents.version == contents.newest:
        return f"version {contents.version}, which is this program's"
    made = f"version {contents.version}" if contents.version else "without tables"
    return f"{made}, and this program's is {contents.newest}: a server upgrades it when it starts"


def _describe(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in rows.items()) or "it holds nothing"
