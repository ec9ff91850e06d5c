"""Which models can answer now."""
