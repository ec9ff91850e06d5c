"""`python -m ops.bench.faults`."""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import httpx

from ops.bench import faults
from ops.bench.application import running
from ops.bench.fault_server import FaultServer, serving
from ops.bench.faults.application import KEY_VARIABLE, KINDS, Times, config
from ops.bench.faults.cases import CASES
from ops.bench.faults.outage import outage
from ops.bench.faults.playing import LONGEST_S, broken, play
from ops.bench.faults.report import HEAD, Line, caller_saw, line_of_outage, provider_saw


async def measure(url: str, provider: FaultServer) -> list[Line]:
    """Plays all cases and the outage, with both kinds of backend."""
    times, lines = Times(), []

    def report(line: Line) -> None:
        print(line, flush=True)
        lines.append(line)

    print(HEAD, flush=True)
    async with httpx.AsyncClient(base_url=url, timeout=LONGEST_S, trust_env=False) as client:
        for kind in KINDS:
            for case in CASES:
                seen = await play(case, kind, client, provider, times)
                saw = caller_saw(seen.reply), provider_saw(seen)
                report(Line(case.row, case.name, kind, *saw, broken(case, seen)))
            report(line_of_outage(await outage(kind, client, provider, times)))
    return lines


def main() -> None:
    """Runs the benchmark; exits with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.faults", description=faults.__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench-faults"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    key = {KEY_VARIABLE: "none"}
    with (
        serving() as provider,
        running(config(provider.url, Times()), out / "application.log", key) as url,
    ):
        lines = asyncio.run(measure(url, provider))
    (out / "table.md").write_text("\n".join([HEAD, *map(str, lines)]) + "\n")
    failed = [line for line in lines if line.broken]
    print(
        json.dumps(
            {
                "benchmark": "faults",
                "cores": os.cpu_count(),
                "times": asdict(Times()),
                "cases": len(lines),
                "kept": len(lines) - len(failed),
                "results": [asdict(line) for line in lines],
            }
        )
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
