"""`python -m ops.bench.drift`."""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from ops.bench import drift
from ops.bench.drift import ageing
from ops.bench.drift.measuring import OTHERS, RATES, figures, measure
from ops.bench.drift.report import plot, table
from ops.bench.drift.traffic import traffic
from ops.bench.drift.windup import recoveries
from ops.bench.drift.windup import table as recovery_table

_ROUTERS = 16  # under other conditions


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.drift", description=drift.__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("ROUTING_DATA") or None)
    parser.add_argument("--out", type=Path, default=Path("build/bench-drift"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    requests = traffic(args.data, args.out / "embeddings")
    found, decision_us = measure(requests)
    others = {
        name: {rate: figures(requests, fleet(_ROUTERS, rate)) for rate in RATES}
        for name, fleet in OTHERS.items()
    }
    plot(requests, found, args.out / "drift.svg")
    recovered = recoveries(requests)
    aged = ageing.rows(ageing.measure(args.data, args.out / "embeddings"))
    parts = table(found, others, _ROUTERS), recovery_table(recovered), ageing.table(aged)
    text = "\n\n".join([*parts, ""])
    (args.out / "table.md").write_text(text)
    print(text)
    results = {
        way: {
            rate: {routers: asdict(mine) for routers, mine in by_routers.items()}
            for rate, by_routers in by_rate.items()
        }
        for way, by_rate in found.items()
    }
    more = {name: {rate: asdict(of) for rate, of in by.items()} for name, by in others.items()}
    print(
        json.dumps(
            {
                "traffic": requests.name,
                "requirement": requests.requirement,
                "decision_us": round(decision_us, 1),
                "results": results,
                "others": more,
                "recoveries": {name: asdict(of) for name, of in recovered.items()},
                "ageing": aged,
            }
        )
    )


if __name__ == "__main__":
    main()
