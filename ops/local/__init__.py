"""The application on this machine, on a Ray of its own: what `make run` is made of."""
