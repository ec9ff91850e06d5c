"""Runs a load test: `python -m ops.load`."""

from ops.cli.app import alone

if __name__ == "__main__":
    alone("load", "ops.load")
