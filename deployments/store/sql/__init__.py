"""The database of past queries: durable, in SQLite or PostgreSQL."""
