-- what the first version of the server made (0327e25), with a key and a reservation
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, created_at_s REAL NOT NULL, revoked_at_s REAL,
    requests_per_minute REAL, tokens_per_minute REAL, concurrent_runs INTEGER, budget REAL, period TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE usage (
    key_id TEXT NOT NULL, day TEXT NOT NULL, pipeline TEXT NOT NULL, runs INTEGER NOT NULL,
    unpriced_runs INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    cost_nano INTEGER NOT NULL, PRIMARY KEY (key_id, day, pipeline)
) WITHOUT ROWID;
CREATE TABLE holders (id TEXT PRIMARY KEY, seen_at_s REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE reservations (
    id TEXT PRIMARY KEY, key_id TEXT NOT NULL, holder TEXT NOT NULL, cost_nano INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX reservations_by_key ON reservations (key_id);
CREATE TABLE past_runs (
    id TEXT PRIMARY KEY, key_id TEXT, pipeline TEXT NOT NULL, started_at_s REAL NOT NULL, first_token_s REAL,
    total_s REAL NOT NULL, reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, cost REAL, conversation TEXT NOT NULL, answer TEXT NOT NULL
);
CREATE INDEX past_runs_by_key ON past_runs (key_id, started_at_s);
INSERT INTO keys VALUES ('a1', 'alice', X'0102', 1.0, NULL, NULL, NULL, NULL, 1.0, 'month');
INSERT INTO usage VALUES ('a1', '2026-11-23', 'mix', 3, 0, 10, 20, 250000000);
INSERT INTO holders VALUES ('h0', 990.0);
INSERT INTO reservations VALUES ('r9', 'a1', 'h0', 500000000);
INSERT INTO past_runs VALUES ('run0', NULL, 'mix', 1.0, NULL, 1.0, 'stop', 1, 1, NULL, 'x', 'y');
PRAGMA user_version = 1;
