"""`stairstream keys`: make, list and revoke the keys of a server. What each does stands in `server/`."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from stairstream.cli.terminal import printable, reveal, tell
from stairstream.config.databases import Database, read_database
from stairstream.config.graphs import build_graph, models_of
from stairstream.config.reading import Where, read
from stairstream.config.schema import Config, load_config
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph
from stairstream.server.access.budgets import first_day
from stairstream.server.access.keys import make_key
from stairstream.server.durable.opening import open_journal_store
from stairstream.server.runs.reservation import find_unpriced
from stairstream.server.storage.opening import may_exist, open_storage
from stairstream.server.storage.values import Key, KeyLimits, KeyUsage


def create_key(name: str, limits: Mapping[str, object], config: Path | None, database: str | None) -> None:
    """Make a key and print it, this once, to standard output."""
    _check_name(name)
    known = read(KeyLimits, dict(limits), Where(file="keys"))
    if "period" in limits and "budget" not in limits:
        raise ConfigError("--period says what a budget is for, and there is none; give --budget too")
    if known.budget is not None:
        _check_budget(load_config(config))

    async def main() -> tuple[Key, bool]:
        key, text = make_key(name, known, time.time())
        async with open_storage(find_database(config, database)) as storage:
            is_first = not await storage.keys()
            await storage.add_key(key)
            try:
                print(text, flush=True)
            except BaseException:  # nobody has seen it
                await storage.revoke_key(key.id, time.time())
                raise
        return key, is_first

    key, is_first = asyncio.run(main())
    tell(f"stairstream: made the key {key.id} for {key.name}; it is shown only now, and only its hash is kept")
    tell(f"stairstream: {_FIRST_KEY if is_first else _LATER_KEY}")


_FIRST_KEY = (
    "it is the first key: a server that is running now has none, and answers every caller until it is restarted"
)
_LATER_KEY = (
    "a running server knows it at once; one that was started before the first key needs a restart to ask for it"
)


def _check_name(name: str) -> None:
    if not name.strip():
        raise ConfigError("the name is empty; give the key one that says whose it is")
    if "\t" in name or name.splitlines() != [name] or reveal(name) != name:
        raise ConfigError(f"the name {name!a} has control characters, which lists and logs can't show")


def _check_budget(config: Config) -> None:
    """Refuse a budget that nothing can be charged to; name the pipelines that a key with a budget can't use."""
    graphs = {name: build_graph(config.models, pipeline) for name, pipeline in config.pipelines.items()}
    unpriced = {name: find_unpriced(graph, config.models) for name, graph in graphs.items()}
    charged = [name for name, graph in graphs.items() if not unpriced[name] and _has_price(graph, config)]
    if not charged:
        raise ConfigError(
            f"no pipeline of {config.file} can be charged to a budget, as their models have no prices; give --config a "
            "file with a `price` for each remote model, or leave --budget out"
        )
    for name, models in unpriced.items():
        if models:
            tell(f"stairstream: the key can't use {name!r}, as a budget needs prices: {', '.join(models)} has none")


def _has_price(graph: Graph, config: Config) -> bool:
    return any(config.models[name].common.price for name in models_of(graph))


def list_keys(config: Path | None, database: str | None, *, as_json: bool) -> None:
    """Print every key, its limits, and what it has used."""

    async def main() -> tuple[list[Key], list[KeyUsage]]:
        found = find_database(config, database)
        if not may_exist(found):
            return [], []
        async with open_storage(found) as storage:
            return await storage.keys(), await storage.usage()

    keys, usage = asyncio.run(main())
    rows = [_describe(key, [one for one in usage if one.key_id == key.id]) for key in keys]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode(), flush=True)
    else:
        _print_table(rows)


def revoke_key(key_id: str, config: Path | None, database: str | None) -> None:
    """Take a key out of use; servers that run know within a second. The journals of its runs are deleted."""

    async def main() -> None:
        found, known = find_database(config, database), "none"
        if may_exist(found):
            async with open_storage(found) as storage:
                if await storage.revoke_key(key_id, time.time()):
                    async with open_journal_store(found) as journals:
                        await journals.forget(key_id, None)  # those of runs in flight once they are over
                    return
                known = ", ".join(key.id for key in await storage.keys() if key.revoked_at_s is None) or "none"
        raise ConfigError(f"there is no key {key_id!r} in use in {found}; there is {known}")

    asyncio.run(main())
    tell(f"stairstream: revoked the key {key_id}")


def find_database(config: Path | None, database: str | None) -> Database:
    """The database. Only a file that a configuration names may be created: a path given here may be mistyped."""
    if database is None:
        return load_config(config).server.location
    try:
        found = read_database(database)
    except ValueError as exc:
        raise ConfigError(f"--database {exc}") from None
    if not may_exist(found):
        raise ConfigError(
            f"there is no database {found}; give --config the server's file, and the database it names is created"
        )
    return found


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
