"""Past queries in memory, where they are searched."""
