"""`python -m ops.bench.store`."""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from deployments.store.evidence import Floats32
from ops.bench import store
from ops.bench.routing.data import DATA, embedded
from ops.bench.routing.measuring import optimiser_seconds
from ops.bench.store.measuring import measure
from ops.bench.store.report import extrapolated, table
from ops.bench.store.rows import ANSWERED
from ops.bench.store.timing import Figures, embedding

_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_MOST = 100_000


def main() -> None:
    """Runs the benchmark."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    recorded, texts = _recorded(args.data, args.out / "embeddings")
    alone = embedding(texts) | optimiser_seconds()
    print(json.dumps(alone), flush=True)
    results: dict[int, Figures] = {}
    for n in [size for size in _SIZES if size <= args.most]:
        began = time.perf_counter()
        results[n] = measure(
            recorded,
            texts,
            n,
            args.models,
            chroma=n <= args.chroma_most,
            seconds=args.seconds,
        )
        results[n]["whole_s"] = time.perf_counter() - began
        print(n, json.dumps(results[n]), flush=True)
    (args.out / "table.md").write_text(text := table(results))
    print(text)
    about = {"cores": os.cpu_count(), "models": args.models, "answered": ANSWERED, **alone}
    print(json.dumps({**about, "results": results, "extrapolated": extrapolated(results)}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.store",
        description=store.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = os.environ.get("ROUTING_DATA", DATA)
    parser.add_argument("--data", type=Path, default=data, help="recorded outcomes")
    parser.add_argument("--most", type=int, default=_MOST, help="most rows")
    parser.add_argument("--chroma-most", type=int, default=_MOST, help="most rows for Chroma")
    parser.add_argument("--models", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each timing of decisions")
    parser.add_argument("--out", type=Path, default=Path("build/bench-store"))
    return parser.parse_args()


def _recorded(data: Path, cache: Path) -> tuple[Floats32, list[str]]:
    """The embeddings of the recorded queries, and their texts."""
    from pyarrow.parquet import read_table

    vectors: list[Floats32] = []
    texts: list[str] = []
    for name in ("zeroeval", "mmlu_pro"):
        batch = read_table(data / f"{name}.parquet", columns=["query"])
        texts += (queries := batch.column("query").to_pylist())
        vectors.append(embedded(queries, cache))
    return np.concatenate(vectors), texts


if __name__ == "__main__":
    main()
