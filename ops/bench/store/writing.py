"""Writes the past queries into a store's database, as observations of answers."""

import time

from deployments.embedding.encoder import DEFAULT_MODEL
from deployments.store.observations import Observation
from deployments.store.sql.database import Database
from ops.bench.store.rows import Rows

_WRITTEN = 2_000  # rows in a transaction


def identity(model: str) -> str:
    """What a model's name stands for."""
    return f"bench/{model}"


def write(url: str, rows: Rows, models: list[str]) -> float:
    """Writes all rows durably, row r as number r + 1; returns the seconds taken."""
    database = Database(url, DEFAULT_MODEL, rows.past.shape[1])
    began = time.perf_counter()
    for start in range(0, len(rows), _WRITTEN):
        part = range(start, min(start + _WRITTEN, len(rows)))
        ids = database.write([seen for row in part for seen in _observations(rows, row, models)])
        if ids != [row + 1 for row in part]:
            raise AssertionError("the database numbers queries differently, so recall is unknown")
    seconds = time.perf_counter() - began
    database.close()
    return seconds


def _observations(rows: Rows, row: int, models: list[str]) -> list[Observation]:
    known = zip(rows.column[row], rows.quality[row], rows.tokens[row], strict=True)
    return [
        Observation(
            f"query {row}",
            rows.past[row],
            models[column],
            "import:bench",
            quality=float(quality),
            output_tokens=float(tokens),
            input_tokens=40,
            characters=160,
            identity=identity(models[column]),
        )
        for column, quality, tokens in known
    ]
