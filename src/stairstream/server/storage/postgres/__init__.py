"""The storage in a PostgreSQL, in a schema of its own."""
