"""Chroma with the outcomes as JSON in its metadata, as AIOS uses it."""

import time
from pathlib import Path
from typing import Any

from ops.bench.store.metadata import means, metadata
from ops.bench.store.rows import AIOS_SIMILAR, Rows

_ADDED = 5_000  # rows at a time


class Chroma:
    """AIOS's store: Chroma on disk, with outcomes as JSON in its metadata.

    Source: https://github.com/agiresearch/AIOS (aios/llm_core/routing.py)

    Attributes:
        build_s: the seconds that it took to build it.
    """

    def __init__(self, folder: Path, rows: Rows, models: list[str]) -> None:
        from chromadb import PersistentClient
        from chromadb.config import Settings

        self._new = rows.new
        client = PersistentClient(str(folder), Settings(anonymized_telemetry=False))
        self._collection = client.create_collection("train_queries", embedding_function=None)
        began = time.perf_counter()
        for start in range(0, len(rows), _ADDED):
            part = range(start, min(start + _ADDED, len(rows)))
            self._collection.add(
                ids=[f"id{row}" for row in part],
                embeddings=rows.past[part.start : part.stop],
                documents=[f"query {row}" for row in part],
                metadatas=[
                    {"input_token_length": 40, "models": metadata(rows, row, models)}
                    for row in part
                ],
            )
        self.build_s = time.perf_counter() - began

    def __call__(self, number: int) -> tuple[list[int], dict[str, float]]:
        """The row numbers of the nearest, and each model's share of correct answers."""
        found: Any = self._collection.query(
            query_embeddings=self._new[number : number + 1], n_results=AIOS_SIMILAR
        )
        ids = [int(id.removeprefix("id")) for id in found["ids"][0]]
        return ids, means(known["models"] for known in found["metadatas"][0])
