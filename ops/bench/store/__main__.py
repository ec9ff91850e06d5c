"""`python -m ops.bench.store`."""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from deployments.embedding.encoder import DEFAULT_MODEL
from deployments.store.evidence import Floats32
from deployments.store.sql.database import Database
from ops.bench import store
from ops.bench.routing.data import DATA, embedded
from ops.bench.routing.measuring import optimiser_seconds
from ops.bench.store.chroma import Chroma
from ops.bench.store.decider import Actor, local_ray, write
from ops.bench.store.rows import synthesise
from ops.bench.store.timing import Figures, build_index, embedding, inserting, milliseconds, search

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SIMILAR = (16, 64, 128, 256, 512)


def measure(recorded: Floats32, n: int) -> Figures:
    """All figures for n rows."""
    rows = synthesise(recorded, n)
    index, figures = build_index(rows)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/store.db"
        database = Database(url, DEFAULT_MODEL, rows.past.shape[1])
        figures["write_s"] = write(database, rows)
        database.close()
        actor, chroma = Actor(url, rows), Chroma(f"{folder}/chroma", rows)
        try:
            figures |= {"start_s": actor.start_s, "actor_megabytes": actor.megabytes()}
            figures |= chroma.figures()
            searches = {f"search_{k}": search(index, rows, k) for k in SIMILAR}
            figures |= milliseconds({"decision": actor, "chroma": chroma, **searches})
            figures["chroma_over_decision"] = figures["chroma_ms"] / figures["decision_ms"]
            figures["chroma_over_search"] = figures["chroma_ms"] / figures["search_16_ms"]
            figures |= actor.learning()
        finally:
            actor.close()
    return figures | inserting(index, rows)


def table(results: dict[int, Figures]) -> str:
    """The results as a Markdown table, a column for each number of rows."""
    names = next(iter(results.values()))
    lines = [
        "| rows | " + " | ".join(f"{n:,}" for n in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name in names:
        cells = " | ".join(f"{figures[name]:,.4g}" for figures in results.values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark."""
    from pyarrow.parquet import read_table

    parser = argparse.ArgumentParser(prog="python -m ops.bench.store", description=store.__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument(
        "--most", type=int, default=100_000, help="most rows (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench-store"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recorded: list[Floats32] = []
    texts: list[str] = []
    for name in ("zeroeval", "mmlu_pro"):
        queries = read_table(args.data / f"{name}.parquet", columns=["query"])
        batch = queries.column("query").to_pylist()
        texts += batch
        recorded.append(embedded(batch, args.out / "embeddings"))
    alone = embedding(texts) | optimiser_seconds()
    print(json.dumps(alone), flush=True)
    results = {}
    with local_ray():
        for n in SIZES:
            if n <= args.most:
                results[n] = measure(np.concatenate(recorded), n)
                print(n, json.dumps(results[n]), flush=True)
    (args.out / "tables.md").write_text(table(results))
    print(table(results))
    print(json.dumps({"cores": os.cpu_count(), "results": results, **alone}))


if __name__ == "__main__":
    main()
