"""Promise: what is known of a model, a source or a time can be deleted, and nothing else."""

import io
from pathlib import Path

import numpy as np
import pytest
from store_command import embeddings, history, item, run, stats

from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder
from deployments.store.observations import AnswerRecord, Observation
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore


@pytest.fixture
def filled(store_url: str, tmp_path: Path) -> str:
    """A store with two models on two queries, from an import and from answers."""
    both = item("both")
    both["outputs"].append({"model_name": "large", "correctness": 1, "output_token_length": 10})
    run("import", history(tmp_path / "past.jsonl", both, item("one")), "--store", store_url)
    database = Database(store_url)
    vector = embeddings(store_url, ["both"])[0]
    for id, model in (("x", "small"), ("y", "large")):
        database.write([(Observation("both", vector, model, "answers"), AnswerRecord(id, model))])
    database.close()
    return store_url


def known(url: str) -> dict[str, set[str]]:
    """The models with outcomes, by query."""
    database = Database(url)
    found = {row.query: set(row.outcomes) for batch in database.rows() for row in batch}
    database.close()
    return found


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--model", "small"], {"both": {"large"}}),
        (["--source", "past"], {"both": {"small", "large"}}),
        (["--source", "import:past", "--model", "small"], {"both": {"small", "large"}}),
        (["--source", "answers"], {"both": {"small", "large"}, "one": {"small"}}),
        (["--before", "2100-01-01"], {}),
        (["--before", "2020-01-01T12:00"], {"both": {"small", "large"}, "one": {"small"}}),
    ],
)
def test_the_selection_is_deleted_and_nothing_else(
    filled: str, options: list[str], left: dict[str, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run("forget", *options, "--store", filled, "--yes")
    assert known(filled) == left
    assert stats(filled, capsys)["queries"] == len(left)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--model", "small"], {"large": ["json"]}),
        (["--source", "past"], {"small": ["json"], "large": ["json"]}),
        (["--source", "answers"], {"small": []}),
        (["--before", "2020-01-01"], {"small": ["json"], "large": ["json"]}),
    ],
)
def test_lengths_by_shape_are_deleted_with_the_answers_that_taught_them(
    filled: str,
    options: list[str],
    left: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = Database(filled)
    vector = embeddings(filled, ["both"])[0]
    for model in ("small", "large"):
        json = Observation("both", vector, model, "answers", output_tokens=70, shape="json")
        database.write([json])
    database.close()
    run("forget", *options, "--store", filled, "--yes")
    shapes = {
        model: list(known["shapes"]) for model, known in stats(filled, capsys)["models"].items()
    }
    assert {model: shapes[model] for model in left} == left


def test_feedback_for_deleted_answers_does_not_bring_them_back(filled: str) -> None:
    run("forget", "--model", "small", "--store", filled, "--yes")
    database = Database(filled)
    small, large = database.score([("x", 1.0), ("y", 1.0)])
    database.close()
    assert (small, large is None) == (None, False)
    assert known(filled) == {"both": {"large"}}


def test_forget_shows_what_it_would_delete_and_asks(
    filled: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = known(filled)
    asked: list[str] = []

    def answer(text: str) -> None:
        def ask(question: str) -> str:
            asked.append(question)
            return text

        monkeypatch.setattr("builtins.input", ask)

    run("forget", "--model", "small", "--store", filled, "--dry-run")
    told = capsys.readouterr().out
    assert "3 outcomes on 2 queries, 1 of which are then deleted too, and 1 answers" in told
    answer("n")
    with pytest.raises(SystemExit, match="nothing was deleted"):
        run("forget", "--model", "small", "--store", filled)
    monkeypatch.undo()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit, match="--yes"):
        run("forget", "--model", "small", "--store", filled)
    assert known(filled) == before
    answer("y")
    run("forget", "--model", "small", "--store", filled)
    assert known(filled) == {"both": {"large"}}
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing selected"),
        (["--model", "smal"], "no model 'smal'; it has: large, small"),
        (["--source", "nobody"], "no source 'nobody'; it has: answers, import:past"),
    ],
)
def test_a_selection_of_nothing_is_refused(filled: str, options: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        run("forget", *options, "--store", filled, "--yes")


def test_an_invalid_date_is_refused_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("forget", "--before", "yesterday")
    assert "'yesterday' is not a date; write 2026-01-31" in capsys.readouterr().err


def test_a_running_server_drops_what_was_deleted(filled: str, tmp_path: Path) -> None:
    database = Database(filled, identities={"small": "openai/small", "large": "openai/large"})
    store = EmbeddingStore(database, Folder(tmp_path / "copies"))

    def synced() -> Copy:
        store.sync()
        store.publish()
        return store.publisher.copy

    store.load()
    assert len(synced()) == 2
    run("forget", "--model", "small", "--store", filled, "--yes")
    assert len(synced()) == 1
    assert np.isnan(synced().means().quality).tolist() == [True, False]
    run("forget", "--model", "large", "--store", filled, "--yes")
    assert (len(synced()), synced().unscored) == (0, 0)
    store.close()
