"""Writing a store's rows to a file, in the formats that histories are read from."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deployments.store.files.history import WRONG_FORMAT
from deployments.store.observations import Outcome, StoredRow

Batches = Iterable[Sequence[StoredRow]]


def write_history(path: str | Path, batches: Batches, models: Sequence[str]) -> int:
    """Writes rows to a file (.json, .jsonl, .parquet), which appears only when it is complete.

    Args:
        path: of the file; an existing one is replaced.
        batches: the rows, as from `Database.rows`.
        models: all models in the rows; Parquet needs its columns in advance.

    Returns:
        How many rows were written.

    Raises:
        ValueError: the suffix is unknown.
        OSError: the file can't be written.
    """
    path = Path(path)
    writers = {".json": _write_json, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise ValueError(f"{path}: {WRONG_FORMAT}")
    with _complete(path) as file:
        return writers[path.suffix](file, batches, models)


@contextmanager
def _complete(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that replaces it at the end, if nothing fails before."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_json(file: IO[bytes], batches: Batches, models: Sequence[str]) -> int:
    number = 0
    for row in _rows(batches):
        file.write(b",\n" if number else b"[\n")
        file.write(_line(row))
        number += 1
    file.write(b"\n]\n" if number else b"[]\n")
    return number


def _write_jsonl(file: IO[bytes], batches: Batches, models: Sequence[str]) -> int:
    number = 0
    for row in _rows(batches):
        file.write(_line(row) + b"\n")
        number += 1
    return number


def _write_parquet(file: IO[bytes], batches: Batches, models: Sequence[str]) -> int:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    fields = [("query", pyarrow.string()), ("input_tokens", pyarrow.float64())]
    for model in models:
        fields += [(f"score__{model}", pyarrow.float64()), (f"out__{model}", pyarrow.float64())]
        fields += [(f"count__{model}", pyarrow.int64())]
        fields += [(f"scored_at__{model}", pyarrow.float64())]
    schema = pyarrow.schema(fields)
    number = 0
    with ParquetWriter(file, schema) as writer:
        for batch in batches:
            rows = [_columns(row) for row in batch]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            number += len(rows)
    return number


def _rows(batches: Batches) -> Iterator[StoredRow]:
    for batch in batches:
        yield from batch


def _line(row: StoredRow) -> bytes:
    outputs = [_output(model, outcome) for model, outcome in row.outcomes.items()]
    item = {"query": row.query, "input_token_length": row.input_tokens, "outputs": outputs}
    return json.dumps(item, ensure_ascii=False).encode("utf-8")


def _output(model: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "model_name": model,
        "correctness": outcome.quality,
        "output_token_length": outcome.output_tokens,
        "count": outcome.count,
        "scored_at": outcome.scored_at,
    }


def _columns(row: StoredRow) -> dict[str, Any]:
    columns: dict[str, Any] = {"query": row.query, "input_tokens": row.input_tokens}
    for model, outcome in row.outcomes.items():
        columns[f"score__{model}"] = outcome.quality
        columns[f"out__{model}"] = outcome.output_tokens
        columns[f"count__{model}"] = outcome.count
        columns[f"scored_at__{model}"] = outcome.scored_at
    return columns
