"""Promise: an import brings every good row into the store exactly once, even if it is repeated or
interrupted, and an export brings it out again."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.store.agreement import digest_of
from deployments.store.evidence import Floats32
from deployments.store.files.exporting import write_history
from deployments.store.files.history import BadRow
from deployments.store.files.importing import Imported, import_history
from deployments.store.observations import Observation, Outcome, StoredRow, key_of
from deployments.store.sql.database import Database

D = 8


class Encoder:
    """Embeddings that depend on the text, and the texts embedded so far."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Floats32:
        self.asked += texts
        seeds = [int.from_bytes(key_of(text)[:4], "big") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).standard_normal(D) for seed in seeds])
        unit: Floats32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float32)


def item(query: str, small: float | None = None, **more: Any) -> dict[str, Any]:
    output = {"model_name": "small", "correctness": small, "output_token_length": 10}
    return {"query": query, "input_token_length": 4, "outputs": [output | more]}


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database("sqlite://", "encoder", D)
    yield database
    database.close()


def known(database: Database) -> dict[str, dict[str, Outcome]]:
    return {row.query: row.outcomes for batch in database.rows() for row in batch}


def test_answers_are_imported_as_their_digests(database: Database) -> None:
    import_history(database, [item("a", 1, answer="8.0"), item("b", 1)], Encoder(), name="a")
    found = known(database)
    assert found["a"]["small"].said == digest_of("8")
    assert found["b"]["small"].said is None


HISTORY = [item(f"query {number}", number % 2) for number in range(700)]


def test_every_row_is_imported(database: Database) -> None:
    progress: list[int] = []
    done = import_history(database, HISTORY, Encoder(), name="a", progress=progress.append)
    assert done == Imported(700, 700, 0)
    assert known(database)["query 3"] == {"small": Outcome(1, 10, 1)}
    assert database.count() == progress[-1] == 700
    assert progress == sorted(progress)
    assert database.stats()["sources"] == {"import:a": 700}
    assert database.tokens_per_character() == pytest.approx(4 / 9, rel=0.1)


def test_the_caller_learns_which_queries_have_been_written(database: Database) -> None:
    told = []

    def written(ids: list[int]) -> None:
        told.append(len(ids))
        assert len(database.read(ids)) == len(ids)
        assert database.count() == sum(told)

    import_history(database, HISTORY, Encoder(), name="a", written=written)
    assert sum(told) == 700
    assert len(told) > 1


def test_a_repeated_import_changes_and_embeds_nothing(database: Database) -> None:
    encoder = Encoder()
    import_history(database, HISTORY, encoder, name="a")
    before = known(database)
    asked = len(encoder.asked)
    import_history(database, HISTORY, encoder, name="a")
    assert known(database) == before
    assert len(encoder.asked) == asked == 700


def test_imports_of_other_names_and_answers_are_averaged(database: Database) -> None:
    query = Observation("Why?", Encoder()(["Why?"])[0], "small", "answers", quality=0.0)
    database.write([query])
    for name in ("a", "b", "a"):
        import_history(database, [item("Why?", 0.75)], Encoder(), name=name)
    assert known(database)["Why?"] == {"small": Outcome(0.5, 10, 3)}


def test_rows_of_one_query_are_averaged_even_far_apart(database: Database) -> None:
    rows = [item("Why?", 1, count=2), *HISTORY, item("Why?", 0), item("Why?", 0)]
    for _ in range(2):
        import_history(database, rows, Encoder(), name="a")
    assert known(database)["Why?"] == {"small": Outcome(0.5, 10, 4)}


def test_an_interrupted_import_is_completed_by_repeating_it(database: Database) -> None:
    rows = [*HISTORY, *HISTORY[::2]]

    def cut(rows_done: int) -> None:
        if rows_done >= 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_history(database, rows, Encoder(), name="a", progress=cut)
    assert 0 < database.count() < 700
    import_history(database, rows, Encoder(), name="a")
    whole = Database("sqlite://", "encoder", D)
    import_history(whole, rows, Encoder(), name="a")
    assert known(database) == known(whole)
    whole.close()


def test_bad_rows_are_skipped_on_request_and_counted(database: Database) -> None:
    rows = [item("good", 1), item("bad", 7), item("", 1), item("unknown"), item("also good", 1)]
    bad: list[BadRow] = []
    done = import_history(database, rows, Encoder(), name="a", on_bad_row=bad.append)
    assert done == Imported(3, 3, 2)
    assert [str(row).partition(":")[0] for row in bad] == ["row 2", "row 3"]
    with pytest.raises(BadRow, match="row 2"):
        import_history(database, rows, Encoder(), name="a")


def test_any_text_can_be_imported(database: Database) -> None:
    texts = ["日本語 🙂", "half \ud83d a character", "x" * 100_000]
    encoder = Encoder()
    import_history(database, [item(text, 1) for text in texts], encoder, name="a")
    assert database.count() == 3
    assert all(text.encode("utf-8") for text in encoder.asked)


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb"])
def test_an_unprintable_name_is_refused(database: Database, name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        import_history(database, HISTORY, Encoder(), name=name)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_an_export_imports_as_the_same(database: Database, tmp_path: Path, suffix: str) -> None:
    large = {"model_name": "large", "correctness": None, "output_token_length": 1.5}
    rows = [item("Why?", 1, count=3), item("Why?", 0.5), item("日本語", 1 / 3), *HISTORY]
    rows.append({"query": "only one knows", "outputs": [large]})
    rows[1]["outputs"][0]["scored_at"] = 1e9
    import_history(database, rows, Encoder(), name="a")
    file = tmp_path / f"out{suffix}"
    assert write_history(file, database.rows(), ["large", "small"]) == 703
    again = Database("sqlite://", "encoder", D)
    import_history(again, file, Encoder(), name="again")
    before, after = known(database), known(again)
    assert before.keys() == after.keys()
    for query, outcomes in before.items():
        for model, outcome in outcomes.items():
            same = after[query][model]
            assert (same.output_tokens, same.count) == (outcome.output_tokens, outcome.count)
            assert same.quality == (outcome.quality and pytest.approx(outcome.quality))
            assert same.scored_at == outcome.scored_at
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    again.close()


def test_an_export_that_fails_leaves_the_file_as_it_was(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("before")

    def failing() -> Iterator[Sequence[StoredRow]]:
        yield from database.rows()
        raise OSError("the disk is full")

    import_history(database, HISTORY, Encoder(), name="a")
    with pytest.raises(OSError, match="full"):
        write_history(file, failing(), ["small"])
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_exported_json_has_aioss_form(database: Database, tmp_path: Path) -> None:
    import_history(database, [item("Why?", 1)], Encoder(), name="a")
    write_history(tmp_path / "out.json", database.rows(), ["small"])
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row == item("Why?", 1, count=1, scored_at=known(database)["Why?"]["small"].scored_at)


def test_scores_are_as_old_as_the_history_says_or_as_their_import(database: Database) -> None:
    begin = time.time()
    import_history(database, [item("a", 1, scored_at=1e9), item("b", 1)], Encoder(), name="a")
    found = {query: known["small"].scored_at for query, known in known(database).items()}
    assert found["a"] == 1e9
    assert found["b"] is not None
    assert begin <= found["b"] <= time.time()
