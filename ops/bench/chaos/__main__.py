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
    """The results as a Markdown table."""
    columns = ("killed", *_COLUMNS, "recovery_s")
    lines = [columns, ["---"] * len(columns)]
    lines += [[part.killed, *(part.figures[name] for name in columns[1:])] for part in parts]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.chaos", description=chaos.__doc__)
    parser.add_argument("--rate", type=float, default=10, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="of load after each recovery")
    parser.add_argument("--out", type=Path, help="a folder for chaos.md and chaos.json")
    args = parser.parse_args()
    # Ray's output goes to stderr, so that stdout holds the figures alone.
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # SIGTERM, too, must stop the cluster.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parts = asyncio.run(measure(args.rate, args.seconds))
    line = json.dumps({part.killed: part.figures for part in parts})
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "chaos.md").write_text(table(parts) + "\n")
        (args.out / "chaos.json").write_text(line + "\n")
    print(table(parts), line, sep="\n", file=stdout, flush=True)


if __name__ == "__main__":
    main()
