"""Chroma with the outcomes as JSON in its metadata, as AIOS uses it."""

import json
import time
from collections import defaultdict
from typing import Any

import numpy as np

from ops.bench.store.rows import AIOS_SIMILAR, NEW, PRICES, Rows
from ops.bench.store.timing import Figures


class Chroma:
    """AIOS's store: Chroma on disk, with outcomes as JSON in its metadata.

    Source: https://github.com/agiresearch/AIOS (aios/llm_core/routing.py)
    """

    def __init__(self, folder: str, rows: Rows) -> None:
        from chromadb import PersistentClient
        from chromadb.config import Settings

        self._rows = rows
        client = PersistentClient(folder, Settings(anonymized_telemetry=False))
        self._collection = client.create_collection("train_queries", embedding_function=None)
        began = time.perf_counter()
        for start in range(0, len(rows), 5_000):
            part = range(start, min(start + 5_000, len(rows)))
            self._collection.add(
                ids=[f"id{row}" for row in part],
                embeddings=rows.past[part.start : part.stop],
                documents=[f"query {row}" for row in part],
                metadatas=[{"input_token_length": 40, "models": self._models(r)} for r in part],
            )
        self.build_s = time.perf_counter() - began

    def __call__(self, number: int) -> tuple[list[int], dict[str, float]]:
        """The row numbers of the nearest, and each model's share of correct answers."""
        found: Any = self._collection.query(
            query_embeddings=self._rows.new[number : number + 1], n_results=AIOS_SIMILAR
        )
        scores = defaultdict(list)
        for metadata in found["metadatas"][0]:
            for model in json.loads(metadata["models"]):
                scores[model["model_name"]].append(model["correctness"])
        ids = [int(id.removeprefix("id")) for id in found["ids"][0]]
        return ids, {model: sum(known) / len(known) for model, known in scores.items()}

    def figures(self) -> Figures:
        """The time to build it, and its recall."""
        recalls = [self._rows.recall(number, self(number)[0]) for number in range(NEW)]
        return {"chroma_build_s": self.build_s, "chroma_recall_at_16": float(np.mean(recalls))}

    def _models(self, row: int) -> str:
        outcomes = zip(PRICES, self._rows.quality[row], self._rows.tokens[row], strict=True)
        return json.dumps(
            [
                {"model_name": m, "correctness": bool(q), "output_token_length": int(t)}
                for m, q, t in outcomes
            ]
        )
