"""Runs, checks and measures the application.

Commands: `run`, `check`, `keys` and `store` (`python -m ops.NAME`). Rooms: `local` (what `make run`
is made of), `demo` (the embedded default's models), `load` (load tests) and `bench` (benchmarks).
The YAML files are examples of Serve config files.
"""
