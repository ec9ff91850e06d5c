"""The backends: each kind of model in a room of its own."""
