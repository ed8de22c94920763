-- what the first version with PostgreSQL made, with a key and a reservation
CREATE SCHEMA stairstream;
CREATE TABLE stairstream.schema_version (number BIGINT NOT NULL);
INSERT INTO stairstream.schema_version VALUES (1);
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
INSERT INTO stairstream.keys VALUES ('a1', 'alice', '\x0102', 1.0, NULL, NULL, NULL, NULL, 1.0, 'month');
INSERT INTO stairstream.usage VALUES ('a1', '2026-11-23', 'mix', 3, 0, 10, 20, 250000000);
INSERT INTO stairstream.holders VALUES ('h0', 990.0);
INSERT INTO stairstream.reservations VALUES ('r9', 'a1', 'h0', 500000000, 'mix', NULL);
