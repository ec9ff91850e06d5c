"""Benchmarks. Each is run as `python -m ops.bench.NAME` and prints a line of JSON last."""
