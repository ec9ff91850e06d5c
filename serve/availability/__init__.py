"""Which models can answer now, and why the others can't."""
