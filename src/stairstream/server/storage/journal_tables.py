"""The tables of journals, in each kind of database; `server/durable` reads and writes them.

A commit is one row for all runs of a holder: a row for each run, in as many pages of an index, cost four times as
much. The holder sorts its commits into `journal_entries` with its heartbeat. `fence` counts how often others took runs
of a holder, and `last_append` is the number of the last append that it wrote.
"""

import msgspec

Row = tuple[str, int, bytes]
"""A run, the number of its first entry here, and lines."""

pack_rows = msgspec.msgpack.Encoder().encode
unpack_rows = msgspec.msgpack.Decoder(list[Row]).decode
"""A commit as SQLite has it, as its rows."""

SQLITE_JOURNALS = """
    CREATE TABLE journal_holders (
        id TEXT PRIMARY KEY, seen_at_s REAL NOT NULL, fence INTEGER NOT NULL, last_append INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE journal_runs (
        id TEXT PRIMARY KEY, key_id TEXT, hold TEXT, protocol TEXT NOT NULL, body BLOB NOT NULL,
        began_at_s REAL NOT NULL, over_at_s REAL, holder TEXT, token INTEGER NOT NULL, tries INTEGER NOT NULL,
        is_cancelled INTEGER NOT NULL
    );
    CREATE INDEX journal_runs_by_holder ON journal_runs (holder) WHERE over_at_s IS NULL;
    CREATE INDEX journal_runs_by_end ON journal_runs (over_at_s) WHERE over_at_s IS NOT NULL;
    CREATE TABLE journal_commits (number INTEGER PRIMARY KEY, holder TEXT NOT NULL, parts BLOB NOT NULL);
    CREATE TABLE journal_entries (
        run TEXT NOT NULL REFERENCES journal_runs (id) ON DELETE CASCADE, first INTEGER NOT NULL,
        lines BLOB NOT NULL, PRIMARY KEY (run, first)
    );
"""

POSTGRES_JOURNALS = """
    CREATE TABLE stairstream.journal_holders (
        id TEXT PRIMARY KEY, seen_at_s DOUBLE PRECISION NOT NULL, fence BIGINT NOT NULL, last_append BIGINT NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE stairstream.journal_runs (
        id TEXT PRIMARY KEY, key_id TEXT, hold TEXT, protocol TEXT NOT NULL, body BYTEA NOT NULL,
        began_at_s DOUBLE PRECISION NOT NULL, over_at_s DOUBLE PRECISION, holder TEXT, token BIGINT NOT NULL,
        tries BIGINT NOT NULL, is_cancelled BIGINT NOT NULL
    );
    CREATE INDEX journal_runs_by_holder ON stairstream.journal_runs (holder) WHERE over_at_s IS NULL;
    CREATE INDEX journal_runs_by_end ON stairstream.journal_runs (over_at_s) WHERE over_at_s IS NOT NULL;
    CREATE TABLE stairstream.journal_commits (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, holder TEXT NOT NULL, runs TEXT[] NOT NULL,
        firsts BIGINT[] NOT NULL, lines BYTEA[] NOT NULL
    ) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
    ALTER TABLE stairstream.journal_commits ALTER COLUMN lines SET STORAGE EXTERNAL;
    CREATE INDEX journal_commits_by_holder ON stairstream.journal_commits (holder);
    CREATE TABLE stairstream.journal_entries (
        run TEXT NOT NULL REFERENCES stairstream.journal_runs ON DELETE CASCADE, first BIGINT NOT NULL,
        lines BYTEA NOT NULL, PRIMARY KEY (run, first)
    );
"""
"""Here a commit is arrays, an element of each for each run, so that the database itself sorts them."""

ASKED = """
    ALTER TABLE {schema}journal_runs ADD COLUMN asked TEXT;
    ALTER TABLE {schema}journal_runs ADD COLUMN rates {bytes};
    CREATE INDEX journal_runs_by_asked ON {schema}journal_runs (asked) WHERE asked IS NOT NULL;
"""
"""`asked` is the client's own name for its request, by which one that is made again finds the run; by `rates`, speeds
of models as JSON, its policy is the same in each process."""
