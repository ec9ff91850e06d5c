"""`python -m ops.bench.chaos`."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ops.bench import chaos
from ops.bench.chaos.kills import Part, measure

_COLUMNS = ("sent", "answered", "refused", "lost", "retried", "again", "rescued", "longest_s")


def table(parts: Sequence[Part]) -> str:
    """In Markdown."""
    columns = ("killed", *_COLUMNS, "recovery_s")
    lines = [columns, ["---"] * len(columns)]
    lines += [[part.killed, *(part.figures[name] for name in columns[1:])] for part in parts]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    """`python -m ops.bench.chaos`."""
    parser = argparse.ArgumentParser(description=chaos.__doc__)
    parser.add_argument("--rate", type=float, default=10, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="that it goes on after each kill")
    parser.add_argument("--out", type=Path, help="a folder for chaos.md and chaos.json")
    given = parser.parse_args()
    # What Ray prints is none of our figures.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Whoever ends this ends the cluster with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parts = asyncio.run(measure(given.rate, given.seconds))
    line = json.dumps({part.killed: part.figures for part in parts})
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "chaos.md").write_text(table(parts) + "\n")
        (given.out / "chaos.json").write_text(line + "\n")
    print(table(parts), line, sep="\n", file=told, flush=True)


if __name__ == "__main__":
    main()
