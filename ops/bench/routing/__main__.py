"""`python -m ops.bench.routing`."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ops.bench import routing
from ops.bench.routing.data import DATA, five_folds, load
from ops.bench.routing.measuring import measure, optimiser_seconds
from ops.bench.routing.report import GOALS, PROBING_GOALS, plot, table


def finite(value: Any) -> Any:
    """The same with None for infinite numbers, which JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.routing", description=routing.__doc__
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument("--out", type=Path, default=Path("build/bench-routing"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    tables = []
    for name, goals in GOALS.items():
        data = load(name, args.data, args.out / "embeddings")
        folds, held_out = (
            five_folds(data),
            (np.flatnonzero(data.train), np.flatnonzero(~data.train)),
        )
        figures, curves = measure(data, folds)
        plot(data, curves, args.out / f"{name}.svg")
        results[f"{name}, five-fold"] = figures
        tables.append(table(f"{name}, five-fold", figures, goals))
        figures, _ = measure(data, [held_out])
        results[f"{name}, val"] = figures
        tables.append(table(f"{name}, fitted on train, measured on val", figures, {}))
    (args.out / "tables.md").write_text("\n".join(tables))
    print("\n".join(tables))
    report: dict[str, Any] = {"goals": GOALS, "probing_goals": PROBING_GOALS, "results": results}
    print(json.dumps(finite(report | optimiser_seconds())))


if __name__ == "__main__":
    main()
