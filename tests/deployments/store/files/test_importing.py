"""Promise: an import brings every good row into the store once, however often it is repeated or cut
short, and an export brings it out again."""

import json

import numpy as np
import pytest

from deployments.store.files.exporting import write_history
from deployments.store.files.history import BadRow
from deployments.store.files.importing import Imported, import_history
from deployments.store.observations import Observation, Outcome, key_of
from deployments.store.sql.database import Database

D = 8


class Encoder:
    """Embeddings that are a text's own, and what was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked += texts
        seeds = [int.from_bytes(key_of(text)[:4], "big") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).standard_normal(D) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def item(query, small=None, **more):
    output = {"model_name": "small", "correctness": small, "output_token_length": 10}
    return {"query": query, "input_token_length": 4, "outputs": [output | more]}


@pytest.fixture
def database():
    database = Database("sqlite://", "encoder", D)
    yield database
    database.close()


def known(database):
    return {row.query: row.outcomes for batch in database.rows() for row in batch}


HISTORY = [item(f"query {number}", number % 2) for number in range(700)]


def test_every_row_comes_in(database):
    progress = []
    done = import_history(database, HISTORY, Encoder(), name="a", progress=progress.append)
    assert done == Imported(700, 700, 0)
    assert known(database)["query 3"] == {"small": Outcome(1, 10, 1)}
    assert database.count() == progress[-1] == 700
    assert progress == sorted(progress)
    assert database.stats()["sources"] == {"import:a": 700}
    assert database.tokens_per_character() == pytest.approx(4 / 9, rel=0.1)


def test_it_is_told_which_queries_were_written_once_they_are(database):
    told = []

    def written(ids):
        told.append(len(ids))
        assert len(database.read(ids)) == len(ids)
        assert database.count() == sum(told)

    import_history(database, HISTORY, Encoder(), name="a", written=written)
    assert sum(told) == 700
    assert len(told) > 1


def test_an_import_repeated_changes_nothing_and_embeds_nothing(database):
    encoder = Encoder()
    import_history(database, HISTORY, encoder, name="a")
    before = known(database)
    asked = len(encoder.asked)
    import_history(database, HISTORY, encoder, name="a")
    assert known(database) == before
    assert len(encoder.asked) == asked == 700


def test_an_import_of_another_name_and_answers_are_averaged_with_it(database):
    query = Observation("Why?", Encoder()(["Why?"])[0], "small", "answers", quality=0.0)
    database.write([query])
    for name in ("a", "b", "a"):
        import_history(database, [item("Why?", 0.75)], Encoder(), name=name)
    assert known(database)["Why?"] == {"small": Outcome(0.5, 10, 3)}


def test_rows_of_one_query_are_averaged_also_far_apart(database):
    rows = [item("Why?", 1, count=2), *HISTORY, item("Why?", 0), item("Why?", 0)]
    for _ in range(2):
        import_history(database, rows, Encoder(), name="a")
    assert known(database)["Why?"] == {"small": Outcome(0.5, 10, 4)}


def test_an_import_cut_short_and_repeated_is_as_one(database):
    rows = [*HISTORY, *HISTORY[::2]]

    def cut(rows_done):
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


def test_bad_rows_are_left_out_on_request_and_counted(database):
    rows = [item("good", 1), item("bad", 7), item("", 1), item("unknown"), item("also good", 1)]
    bad = []
    done = import_history(database, rows, Encoder(), name="a", on_bad_row=bad.append)
    assert done == Imported(3, 3, 2)
    assert [str(row).partition(":")[0] for row in bad] == ["row 2", "row 3"]
    with pytest.raises(BadRow, match="row 2"):
        import_history(database, rows, Encoder(), name="a")


def test_any_text_comes_in(database):
    texts = ["日本語 🙂", "half \ud83d a character", "x" * 100_000]
    encoder = Encoder()
    import_history(database, [item(text, 1) for text in texts], encoder, name="a")
    assert database.count() == 3
    assert all(text.encode("utf-8") for text in encoder.asked)


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb"])
def test_a_name_that_no_one_can_read_is_refused(database, name):
    with pytest.raises(ValueError, match="printable"):
        import_history(database, HISTORY, Encoder(), name=name)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_what_is_exported_and_imported_again_is_the_same(database, tmp_path, suffix):
    large = {"model_name": "large", "correctness": None, "output_token_length": 1.5}
    rows = [item("Why?", 1, count=3), item("Why?", 0.5), item("日本語", 1 / 3), *HISTORY]
    rows.append({"query": "only one knows", "outputs": [large]})
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
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    again.close()


def test_an_export_that_fails_leaves_the_file_as_it_was(database, tmp_path):
    file = tmp_path / "out.json"
    file.write_text("before")

    def failing():
        yield from database.rows()
        raise OSError("the disk is full")

    import_history(database, HISTORY, Encoder(), name="a")
    with pytest.raises(OSError, match="full"):
        write_history(file, failing(), ["small"])
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_exported_json_is_as_aios_has_it(database, tmp_path):
    import_history(database, [item("Why?", 1)], Encoder(), name="a")
    write_history(tmp_path / "out.json", database.rows(), ["small"])
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row == item("Why?", 1, count=1)
