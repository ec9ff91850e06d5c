"""The durable database of past queries."""
