"""The tables in a PostgreSQL, by numbered steps."""

from stairstream.config.databases import PostgresAddress
from stairstream.core.errors import ConfigError
from stairstream.server.storage.journal_tables import ASKED, POSTGRES_JOURNALS
from stairstream.server.storage.postgres.connecting import Connection, connected_once
from stairstream.server.storage.postgres.leases import LEASE_TABLES

LOCK = 5_822_190_071
"""The advisory lock of the process that writes: budgets that are checked still hold when they are written."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE stairstream.keys (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BYTEA NOT NULL, created_at_s DOUBLE PRECISION NOT NULL,
        revoked_at_s DOUBLE PRECISION, requests_per_minute DOUBLE PRECISION, tokens_per_minute DOUBLE PRECISION,
        concurrent_runs BIGINT, budget DOUBLE PRECISION, period TEXT NOT NULL
    );
    CREATE TABLE stairstream.key_changes (number BIGINT NOT NULL);
    INSERT INTO stairstream.key_changes VALUES (0);
    CREATE TABLE stairstream.usage (
        key_id TEXT NOT NULL, day TEXT NOT NULL, pipeline TEXT NOT NULL, runs BIGINT NOT NULL,
        unpriced_runs BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
        cost_nano BIGINT NOT NULL, PRIMARY KEY (key_id, day, pipeline)
    );
    CREATE TABLE stairstream.holders (
        id TEXT PRIMARY KEY, seen_at_s DOUBLE PRECISION NOT NULL, last_batch TEXT
    );
    CREATE TABLE stairstream.reservations (
        id TEXT PRIMARY KEY, key_id TEXT NOT NULL, holder TEXT NOT NULL, cost_nano BIGINT NOT NULL,
        pipeline TEXT NOT NULL, lost_day TEXT
    );
    CREATE INDEX reservations_by_key ON stairstream.reservations (key_id);
    CREATE TABLE stairstream.past_runs (
        id TEXT PRIMARY KEY, key_id TEXT, pipeline TEXT NOT NULL, model TEXT NOT NULL, question BYTEA NOT NULL,
        started_at_s DOUBLE PRECISION NOT NULL, first_token_s DOUBLE PRECISION, total_s DOUBLE PRECISION NOT NULL,
        reason TEXT NOT NULL, prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL, cost DOUBLE PRECISION,
        size_bytes BIGINT NOT NULL
    );
    CREATE INDEX past_runs_by_key ON stairstream.past_runs (key_id, started_at_s, id);
    CREATE INDEX past_runs_by_age ON stairstream.past_runs (started_at_s, id, size_bytes);
    CREATE TABLE stairstream.past_words (
        id TEXT PRIMARY KEY REFERENCES stairstream.past_runs ON DELETE CASCADE, conversation BYTEA NOT NULL,
        num_passing BIGINT NOT NULL, answer BYTEA NOT NULL, tool_calls TEXT NOT NULL, result TEXT NOT NULL,
        events BYTEA NOT NULL, repeated TEXT NOT NULL
    );
    """,
    LEASE_TABLES,
    POSTGRES_JOURNALS,
    ASKED.format(schema="stairstream.", bytes="BYTEA"),
)
"""Each upgrades a database by one version, which `schema_version` holds. Never change one: add another.

Texts of people and models are BYTEA, in UTF-8: TEXT can't hold the character 0.
"""


async def migrate(address: PostgresAddress) -> None:
    """Bring the tables up to this program's version; ConfigError if that can't be, or they are newer."""
    async with connected_once(address) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))  # another process may do the same
        version = await read_version(connection)
        check_version(version, address)
        if version == len(MIGRATIONS):
            return
        if not version:
            await _make_schema(connection)
            await connection.execute("CREATE TABLE stairstream.schema_version (number BIGINT NOT NULL)")
            await connection.execute("INSERT INTO stairstream.schema_version VALUES (0)")
        for step in MIGRATIONS[version:]:
            await connection.execute(step.encode())
        await connection.execute("UPDATE stairstream.schema_version SET number = %s", (len(MIGRATIONS),))


def check_version(version: int, address: PostgresAddress) -> None:
    """ConfigError for tables of a newer version."""
    if version > len(MIGRATIONS):
        newer = "was made by a newer stairstream; update this one, or name another"
        raise ConfigError(f"the database {address} {newer}")


async def read_version(connection: Connection) -> int:
    """The version of the tables, 0 if there are none."""
    looked = await connection.execute("SELECT to_regclass('stairstream.schema_version') IS NULL")
    ((has_none,),) = await looked.fetchall()
    if has_none:
        return 0
    ((version,),) = await (await connection.execute("SELECT number FROM stairstream.schema_version")).fetchall()
    return int(version)


async def _make_schema(connection: Connection) -> None:
    """Make the schema, unless an administrator has: to make one takes a right of its own."""
    looked = await connection.execute("SELECT to_regnamespace('stairstream') IS NULL")
    ((has_none,),) = await looked.fetchall()
    if has_none:
        await connection.execute("CREATE SCHEMA stairstream")
