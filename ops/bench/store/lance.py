"""LanceDB in this process, with a graph over codes of 8 bits, as its documentation advises."""

import time
from pathlib import Path
from typing import Any

from ops.bench.store.metadata import means, metadata
from ops.bench.store.rows import AIOS_SIMILAR, Rows

_ADDED = 50_000  # rows at a time
_IN_GRAPH = 1_048_576  # rows in one graph
# At 100,000 rows, the quickest with a recall of .99: more effort and more exact comparisons bring
# .998 in half as much time again, IVF_PQ .988 in twice as much.
_EFFORT = 4 * AIOS_SIMILAR
_REFINED = 2  # times as many rows as wanted are compared once more, exactly


class Lance:
    """A table with the same outcomes as Chroma's, and a vector index.

    Source of the index and its settings: https://docs.lancedb.com/indexing/vector-index

    Attributes:
        build_s: the seconds that it took to build it.
    """

    def __init__(self, folder: Path, rows: Rows, models: list[str]) -> None:
        import lancedb
        from lancedb.index import HnswSq

        self._new = rows.new
        began = time.perf_counter()
        table: Any = None
        for start in range(0, len(rows), _ADDED):
            part = _batch(rows, range(start, min(start + _ADDED, len(rows))), models)
            if table is None:
                table = lancedb.connect(str(folder)).create_table("queries", part)
            else:
                table.add(part)
        graphs = max(1, len(rows) // _IN_GRAPH)
        table.create_index(
            "vector",
            config=HnswSq(distance_type="cosine", num_partitions=graphs, ef_construction=150),
        )
        self._table = table
        self.build_s = time.perf_counter() - began

    def __call__(self, number: int) -> tuple[list[int], dict[str, float]]:
        """The row numbers of the nearest, and each model's share of correct answers."""
        search = self._table.search(self._new[number]).distance_type("cosine")
        wanted = search.select(["row", "models", "_distance"]).limit(AIOS_SIMILAR)
        found = wanted.ef(_EFFORT).refine_factor(_REFINED).to_arrow()
        return found["row"].to_pylist(), means(found["models"].to_pylist())


def _batch(rows: Rows, part: range, models: list[str]) -> Any:
    import pyarrow as pa

    vectors = rows.past[part.start : part.stop]
    return pa.table(
        {
            "row": pa.array(part, pa.int64()),
            "models": [metadata(rows, row, models) for row in part],
            "vector": pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.ravel()), vectors.shape[1]
            ),
        }
    )
