"""Runs, checks and measures the application.

Commands: `run`, `check`, `keys` and `store` (`python -m ops.NAME`), and all of them together in
`cli`. Rooms: `cli` (their options), `client` (what asks a running server), `local` (what `make run`
is made of), `demo` (the embedded default's models), `load` (load tests) and `bench` (benchmarks).
The YAML files are examples of Serve config files.
"""
