"""`python -m ops.bench.exploring`."""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ops.bench import exploring
from ops.bench.exploring.fleets import newcomers
from ops.bench.exploring.learning import learning
from ops.bench.exploring.report import plot, stream_rows, table
from ops.bench.exploring.sparse import sparse_rows
from ops.bench.exploring.streaming import Streams
from ops.bench.routing.data import DATA, Data, load

_STREAMED = "mmlu_pro"  # zeroeval has too few queries
_STREAMED_FLEETS = 2, 3, 8, 9  # whose new models gain much
_SHARES = 0.0, 0.01, 0.05


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.exploring", description=exploring.__doc__
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument("--out", type=Path, default=Path("build/bench-exploring"))
    parser.add_argument("--fleets", type=int, default=10, help="of each file of the data")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    files = {
        name: load(name, args.data, args.out / "embeddings") for name in ("zeroeval", "mmlu_pro")
    }
    found = {
        name: list(learning(newcomers(data, range(args.fleets)))) for name, data in files.items()
    }
    plot(found, args.out / "exploring.svg")
    rows = list(streamed(files[_STREAMED]))
    text = "\n".join([table(found), *rows, "", *sparse_rows(files), ""])
    (args.out / "tables.md").write_text(text)
    print(text)
    print(json.dumps({name: [asdict(curve) for curve in of] for name, of in found.items()}))


def streamed(data: Data) -> Iterator[str]:
    """The rows of the table of requests, as Markdown."""
    for fleet in _STREAMED_FLEETS:
        for newcomer in newcomers(data, range(fleet, fleet + 1)):
            streams = Streams(newcomer)
            runs = {f"exploration {share:g}": streams.run(share) for share in _SHARES}
            runs["history known"] = streams.run(0.0, known=True)
            runs["without it"] = streams.run(0.0, without=True)
            yield from stream_rows(newcomer, runs)


if __name__ == "__main__":
    main()
