"""`python -m ops.bench.engine`."""

import argparse
import asyncio
import json
import os
import signal
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ops.bench import engine
from ops.bench.engine.contestants import CONTESTANTS, started
from ops.bench.engine.models import DEMO_LARGE, slow_model
from ops.bench.engine.report import figures, ratios, table
from ops.bench.engine.rounds import rounds

GOALS = {"ttft": 1.10, "tokens_per_s": 0.95}


def measure(model: Path, number: int, out: Path) -> dict[str, Any]:
    """Measures all contestants with one model."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(started(name, model, out)) for name in CONTESTANTS}
        played = asyncio.run(rounds(servers, number))
    measured = {name: figures(mine) for name, mine in played.items()}
    compared = ratios(played)
    report = f"\n{model.name}, {number} rounds\n\n{table(measured, compared)}"
    print(report, flush=True)
    with (out / "tables.md").open("a") as tables:
        tables.write(f"{report}\n")
    return {
        name: {
            **measured[name],
            "ratios": {key: asdict(value) for key, value in compared[name].items()},
        }
        for name in played
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.engine", description=engine.__doc__)
    parser.add_argument(
        "--rounds", type=int, default=10, help="rounds for each model (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench-engine"))
    arguments = parser.parse_args()
    # SIGTERM, too, must stop all contestants.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "tables.md").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        models = [DEMO_LARGE, slow_model(Path(folder) / "slow")]
        results = {model.name: measure(model, arguments.rounds, arguments.out) for model in models}
    print(
        json.dumps(
            {
                "benchmark": "engine",
                "cores": os.cpu_count(),
                "rounds": arguments.rounds,
                "goals": GOALS,
                "results": results,
            }
        )
    )


if __name__ == "__main__":
    main()
