"""Promise: past queries read as arrays are the same as those read one by one."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest
from observed import D, retained, seen

from deployments.store.observations import Outcome, StoredRow
from deployments.store.sql import database as module
from deployments.store.sql.chunks import chunks
from deployments.store.sql.database import Database
from deployments.store.sql.reading import Batch, stored_of

SERVED = {"small": "openai/small", "large": "openai/large"}


@pytest.fixture
def filled(store_url: str) -> Iterator[Database]:
    """What three models did on 100 queries, under changing identities, as told by two sources; some
    queries have been deleted."""
    random = np.random.default_rng(0)
    database = Database(store_url, "encoder", D, identities=SERVED)
    database.write(
        [
            seen(
                f"query {random.integers(100)}",
                model := str(random.choice(["small", "large", "retired"])),
                str(random.choice(["answers", "import:a"])),
                quality=random.random() if random.random() < 0.5 else None,
                output_tokens=1000 * random.random() if random.random() < 0.5 else None,
                count=random.integers(1, 4),
                identity=str(random.choice(["", f"openai/{model}", "openai/before"])),
            )
            for _ in range(500)
        ]
    )
    assert retained(database, 80)
    yield database
    database.close()


def assert_same(batch: Batch, rows: Sequence[StoredRow]) -> None:
    assert batch.ids.tolist() == [row.id for row in rows]
    assert batch.revisions.tolist() == [row.revision for row in rows]
    assert batch.embeddings.dtype == np.float16
    for vector, row in zip(batch.embeddings, rows, strict=True):
        np.testing.assert_allclose(vector, row.embedding, atol=1e-3)
    found: list[dict[str, Outcome]] = [{} for _ in rows]
    told = zip(batch.quality, batch.output_tokens, batch.counts, strict=True)
    for row, column, known in zip(batch.rows, batch.columns, told, strict=True):
        quality, tokens = (None if np.isnan(mean) else float(mean) for mean in known[:2])
        assert batch.models[column] not in found[row]
        found[row][batch.models[column]] = Outcome(quality, tokens, int(known[2]))
    wanted = [
        {model: single(known) for model, known in row.outcomes.items() if model in batch.models}
        for row in rows
    ]
    assert found == wanted


def single(known: Outcome) -> Outcome:
    """The outcome in single precision."""
    quality, tokens = (
        None if mean is None else float(np.float32(mean))
        for mean in (known.quality, known.output_tokens)
    )
    return Outcome(quality, tokens, known.count)


@pytest.mark.parametrize("models", [None, ["large"], ["retired", "large", "nobody's"], []])
def test_arrays_say_what_rows_say(
    filled: Database, models: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", 30)
    batches, rows = list(filled.batches(models)), list(filled.rows())
    assert len(batches) == len(rows) > 2
    for batch, some in zip(batches, rows, strict=True):
        assert batch.models == (list(SERVED) if models is None else models)
        assert_same(batch, some)
    ids = [1000, *(row.id for some in rows[::2] for row in some)]
    monkeypatch.setattr(module, "chunks", partial(chunks, size=7))
    assert_same(filled.batch(ids, models), filled.read(ids))


def test_arrays_of_nothing(filled: Database) -> None:
    assert_same(filled.batch([]), [])
    assert_same(filled.batch([1000]), [])
    assert filled.batch([]).embeddings.shape == (0, D)


def test_what_is_added_between_two_statements_is_left_out(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL shows each statement what has been committed before it."""
    (last,) = filled.write([seen("last", quality=1)])
    rows = filled.read(range(last))

    def without_last(*arguments: object) -> Sequence[object]:
        return [row for row in stored_of(*arguments) if row.id != last]  # type: ignore[arg-type]

    monkeypatch.setattr(module, "stored_of", without_last)
    assert_same(filled.batch(range(last + 1)), rows)
