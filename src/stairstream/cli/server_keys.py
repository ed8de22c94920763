"""`stairstream keys`: make, list and revoke the keys of a server. What each does stands in `server/`."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from stairstream.cli.terminal import printable, tell
from stairstream.config.reading import Where, read
from stairstream.config.schema import load_config
from stairstream.core.errors import ConfigError
from stairstream.server.access.budgets import first_day
from stairstream.server.access.keys import make_key
from stairstream.server.storage.contract import Storage
from stairstream.server.storage.sqlite import open_sqlite
from stairstream.server.storage.values import Key, KeyLimits, KeyUsage


def create_key(name: str, limits: Mapping[str, object], config: Path | None, database: Path | None) -> None:
    """Make a key and print it, this once, to standard output."""
    if not name.strip():
        raise ConfigError("the name is empty; give the key one that says whose it is")
    known = read(KeyLimits, dict(limits), Where(file="keys"))
    if "period" in limits and "budget" not in limits:
        raise ConfigError("--period says what a budget is for, and there is none; give --budget too")

    async def main() -> Key:
        key, text = make_key(name, known, time.time())
        async with _open_storage(config, database) as (storage, _):
            await storage.add_key(key)
        print(text, flush=True)
        return key

    key = asyncio.run(main())
    tell(f"stairstream: made the key {key.id} for {key.name}; it is shown only now, and only its hash is kept")


def list_keys(config: Path | None, database: Path | None, *, as_json: bool) -> None:
    """Print every key, its limits, and what it has used."""

    async def main() -> tuple[list[Key], list[KeyUsage]]:
        if not _file(config, database).exists():
            return [], []
        async with _open_storage(config, database) as (storage, _):
            return await storage.keys(), await storage.usage()

    keys, usage = asyncio.run(main())
    rows = [_describe(key, [one for one in usage if one.key_id == key.id]) for key in keys]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode(), flush=True)
    else:
        _print_table(rows)


def revoke_key(key_id: str, config: Path | None, database: Path | None) -> None:
    """Take a key out of use; servers that run know within a second."""

    async def main() -> None:
        async with _open_storage(config, database) as (storage, file):
            if not await storage.revoke_key(key_id, time.time()):
                known = ", ".join(key.id for key in await storage.keys() if key.revoked_at_s is None) or "none"
                raise ConfigError(f"there is no key {key_id!r} in use in {file}; there is {known}")

    asyncio.run(main())
    tell(f"stairstream: revoked the key {key_id}")


@asynccontextmanager
async def _open_storage(config: Path | None, database: Path | None) -> AsyncIterator[tuple[Storage, Path]]:
    file = _file(config, database)
    async with open_sqlite(file) as storage:
        yield storage, file


def _file(config: Path | None, database: Path | None) -> Path:
    return database or load_config(config).server.database_file


def _describe(key: Key, usage: Sequence[KeyUsage]) -> dict[str, object]:
    """A key as one JSON object; no key has its secret."""
    since = first_day(key.limits.period, time.time())
    return {
        "id": key.id,
        "name": key.name,
        "created": _date(key.created_at_s),
        "revoked": None if key.revoked_at_s is None else _date(key.revoked_at_s),
        "limits": key.limits,
        "runs": sum(one.runs for one in usage),
        "unpriced_runs": sum(one.unpriced_runs for one in usage),
        "prompt_tokens": sum(one.prompt_tokens for one in usage),
        "completion_tokens": sum(one.completion_tokens for one in usage),
        "cost": sum(one.cost for one in usage),
        "cost_of_period": sum(one.cost for one in usage if one.day >= since),
        "by_pipeline": {
            name: sum(one.runs for one in usage if one.pipeline == name)
            for name in dict.fromkeys(one.pipeline for one in usage)
        },
    }


def _print_table(rows: Sequence[dict[str, object]]) -> None:
    if not rows:
        print("there are no keys; to make one: stairstream keys create NAME", flush=True)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("id", "name", "created", "revoked", "runs", "tokens", "cost", "limits"):
        table.add_column(name, justify="right" if name in ("runs", "tokens", "cost") else "left")
    for row in rows:
        tokens = f"{row['prompt_tokens']} + {row['completion_tokens']}"
        cells = (row["id"], printable(str(row["name"])), row["created"], row["revoked"] or "", row["runs"], tokens)
        table.add_row(*map(str, cells), f"{row['cost']:.6g}", _limits(row))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000).print(table)


def _limits(row: dict[str, object]) -> str:
    limits = row["limits"]
    assert isinstance(limits, KeyLimits)
    texts = [
        f"{limits.requests_per_minute:g} requests/min" if limits.requests_per_minute else "",
        f"{limits.tokens_per_minute:g} tokens/min" if limits.tokens_per_minute else "",
        f"{limits.concurrent_runs} at once" if limits.concurrent_runs else "",
        "" if limits.budget is None else _budget(limits, row["cost_of_period"]),
    ]
    return ", ".join(filter(None, texts))


def _budget(limits: KeyLimits, spent: object) -> str:
    period = {"total": "", "month": " this month", "day": " today"}[limits.period]
    return f"{spent:.6g} of {limits.budget:g} spent{period}"


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
