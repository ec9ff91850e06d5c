"""Promise: a store can be filled, written to a file, looked at and re-embedded from a shell, and
whatever is wrong is said on stderr, with nothing half done."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deployments.store.errors import EmbeddingModelChanged
from deployments.store.observations import AnswerRecord, Observation, key_of
from deployments.store.retention import Retention
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore
from ops.store import main

ROOT = Path(__file__).parents[2]


class Encoder:
    """A small embedding model: embeddings that are a text's and its name's own."""

    def __init__(self, name):
        self.name = name
        self.dimensions = 8 if name != "wide" else 16

    def __call__(self, texts):
        return np.stack([self._embedding(text) for text in texts])

    def _embedding(self, text):
        seed = int.from_bytes(key_of(self.name + text)[:4], "big")
        vector = np.random.default_rng(seed).standard_normal(self.dimensions)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def run(*arguments, encoder=Encoder):
    main([str(argument) for argument in arguments], encoder)


def item(query, score=1):
    output = {"model_name": "small", "correctness": score, "output_token_length": 10}
    return {"query": query, "input_token_length": 4, "outputs": [output]}


def history(path, *items):
    path.write_text("\n".join(map(json.dumps, items)))
    return path


@pytest.fixture
def file(tmp_path):
    return history(tmp_path / "first.jsonl", *(item(f"query {n}", n % 2) for n in range(600)))


def stats(url, capsys):
    capsys.readouterr()
    run("stats", "--store", url, "--json")
    return json.loads(capsys.readouterr().out)


def embeddings(url, texts):
    database = Database(url)
    found = database.embeddings(texts)
    database.close()
    return np.stack(found)


def test_import_stats_export_and_import_again(store_url, file, tmp_path, capsys):
    for _ in range(2):
        run("import", file, "--store", store_url)
    told = capsys.readouterr()
    assert f"{file}: 600 rows, 600 observations\n" in told.out
    assert "first.jsonl: 100%" in told.err
    before = stats(store_url, capsys)
    assert (before["queries"], before["sources"]) == (600, {"import:first": 600})
    run("export", tmp_path / "out.parquet", "--store", store_url)
    again = f"sqlite:///{tmp_path}/again.db"
    run("import", tmp_path / "out.parquet", "--name", "first", "--store", again)
    assert stats(again, capsys)["models"] == before["models"]


def test_stats_are_a_table_for_people(file, tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/store.db"
    run("import", file, "--store", url)
    capsys.readouterr()
    run("stats", "--store", url)
    table = capsys.readouterr().out
    assert "600 queries" in table
    assert "600 answers from import:first" in table
    assert table.splitlines()[-1].split() == ["small", "600", "600", "600", "0.500", "10", "-"]
    database = Database(url)
    vector = embeddings(url, ["query 0"])[0]
    database.write([Observation("query 0", vector, "small", "answers", identity="openai/gpt")])
    database.close()
    run("stats", "--store", url)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  600 answers of an unknown model",
        "  1 answers of openai/gpt",
    ]


def test_a_file_with_bad_rows_is_refused_whole_and_so_are_those_beside_it(file, tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/store.db"
    bad = history(tmp_path / "bad.jsonl", item("a"), item("b", 7), item(""), item("c"))
    with pytest.raises(SystemExit, match="2 bad rows, so nothing was imported"):
        run("import", file, bad, "--store", url)
    told = capsys.readouterr().err
    assert "bad.jsonl, line 2: the score of 'small' must be between 0 and 1" in told
    assert "bad.jsonl, line 3: 'query' must be text" in told
    assert not (tmp_path / "store.db").exists()
    run("import", file, bad, "--store", url, "--skip-bad-rows")
    assert "2 rows, 2 observations, 2 bad rows skipped" in capsys.readouterr().out
    assert stats(url, capsys)["queries"] == 602


def test_many_bad_rows_are_not_all_told(tmp_path, capsys):
    bad = history(tmp_path / "bad.jsonl", *[item("") for _ in range(100)])
    with pytest.raises(SystemExit, match="100 bad rows"):
        run("import", bad, "--store", f"sqlite:///{tmp_path}/store.db")
    told = capsys.readouterr().err
    assert told.count("'query' must be text") < 30
    assert "and 80 more bad rows" in told


def test_a_new_store_takes_the_model_that_is_asked_for_and_keeps_it(file, tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/store.db"
    run("import", file, "--store", url, "--model", "wide")
    run("import", history(tmp_path / "more.jsonl", item("more")), "--store", url)
    assert stats(url, capsys)["embedding_model"] == "wide"
    np.testing.assert_allclose(embeddings(url, ["more"]), Encoder("wide")(["more"]), atol=1e-3)
    with pytest.raises(SystemExit, match="reembed"):
        run("import", file, "--store", url, "--model", "another")


@pytest.fixture
def filled(store_url, tmp_path):
    """Two models on two queries, from an import and from answers."""
    both = item("both")
    both["outputs"].append({"model_name": "large", "correctness": 1, "output_token_length": 10})
    run("import", history(tmp_path / "past.jsonl", both, item("one")), "--store", store_url)
    database = Database(store_url)
    vector = embeddings(store_url, ["both"])[0]
    for id, model in (("x", "small"), ("y", "large")):
        database.write([(Observation("both", vector, model, "answers"), AnswerRecord(id, model))])
    database.close()
    return store_url


def known(url):
    """The models that something is known of, for each query."""
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
def test_what_is_asked_for_is_forgotten_and_nothing_else(filled, options, left, capsys):
    run("forget", *options, "--store", filled, "--yes")
    assert known(filled) == left
    assert stats(filled, capsys)["queries"] == len(left)


def test_feedback_for_what_was_forgotten_does_not_bring_it_back(filled):
    run("forget", "--model", "small", "--store", filled, "--yes")
    database = Database(filled)
    small, large = database.score([("x", 1.0), ("y", 1.0)])
    database.close()
    assert (small, large is None) == (None, False)
    assert known(filled) == {"both": {"large"}}


def test_forgetting_says_first_what_it_would_delete_and_asks(filled, capsys, monkeypatch):
    before = known(filled)
    asked = []

    def answer(text):
        def ask(question):
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
def test_what_can_not_be_forgotten_is_said(filled, options, message):
    with pytest.raises(SystemExit, match=message):
        run("forget", *options, "--store", filled, "--yes")


def test_a_date_that_is_none_is_refused_with_an_example(capsys):
    with pytest.raises(SystemExit):
        run("forget", "--before", "yesterday")
    assert "'yesterday' is not a date; write 2026-01-31" in capsys.readouterr().err


def test_a_running_server_notices_what_was_forgotten(filled):
    store = EmbeddingStore(Database(filled), ["small", "large"], 8)
    store.load()
    assert len(store.rows) == 2
    run("forget", "--model", "small", "--store", filled, "--yes")
    store.sync()
    assert len(store.rows) == 1
    assert np.isnan(store.rows.means().quality).tolist() == [True, False]
    run("forget", "--model", "large", "--store", filled, "--yes")
    store.sync()
    assert (len(store.rows), store.rows.unscored) == (0, 0)
    store.close()


def test_reembedding_replaces_all_embeddings(store_url, file, capsys):
    texts = [f"query {number}" for number in range(600)]
    run("import", file, "--store", store_url, "--model", "old")
    before = stats(store_url, capsys)
    run("reembed", "--store", store_url, "--model", "wide")
    assert "600 queries re-embedded with wide" in capsys.readouterr().out
    after = stats(store_url, capsys)
    assert after["models"] == before["models"]
    assert (after["embedding_model"], after["dimensions"]) == ("wide", 16)
    np.testing.assert_allclose(embeddings(store_url, texts), Encoder("wide")(texts), atol=1e-3)
    run("reembed", "--store", store_url, "--model", "wide")
    assert "0 queries" in capsys.readouterr().out


def test_reembedding_that_was_killed_is_taken_up_and_never_seen_half_done(
    store_url,
    file,
):
    asked = []

    class Killed(Encoder):
        def __call__(self, texts):
            asked.extend(texts)
            if len(asked) > 300:
                raise KeyboardInterrupt
            return super().__call__(texts)

    class Counting(Encoder):
        def __call__(self, texts):
            asked.extend(texts)
            return super().__call__(texts)

    texts = [f"query {number}" for number in range(600)]
    run("import", file, "--store", store_url, "--model", "old")
    with pytest.raises(SystemExit):
        run("reembed", "--store", store_url, "--model", "new", encoder=Killed)
    assert 0 < len(asked) < 600
    np.testing.assert_allclose(embeddings(store_url, texts), Encoder("old")(texts), atol=1e-3)
    asked.clear()
    run("reembed", "--store", store_url, "--model", "new", encoder=Counting)
    assert 0 < len(asked) < 600
    np.testing.assert_allclose(embeddings(store_url, texts), Encoder("new")(texts), atol=1e-3)


def test_half_done_embeddings_of_a_third_model_are_not_used(file, tmp_path):
    class Killed(Encoder):
        calls = 0

        def __call__(self, texts):
            Killed.calls += 1
            if Killed.calls > 1:
                raise KeyboardInterrupt
            return super().__call__(texts)

    url = f"sqlite:///{tmp_path}/store.db"
    texts = [f"query {number}" for number in range(600)]
    run("import", file, "--store", url, "--model", "old")
    with pytest.raises(SystemExit):
        run("reembed", "--store", url, "--model", "third", encoder=Killed)
    run("reembed", "--store", url, "--model", "new")
    np.testing.assert_allclose(embeddings(url, texts), Encoder("new")(texts), atol=1e-3)


def test_who_writes_while_it_is_re_embedded_is_taken_in_and_then_refused(store_url, file, tmp_path):
    run("import", file, "--store", store_url, "--model", "old")
    server = Database(store_url, "old", 8)
    late, first = history(tmp_path / "late.jsonl", item("late")), iter([True])

    class Meanwhile(Encoder):
        def __call__(self, texts):
            if next(first, False):
                run("import", late, "--store", store_url)
                assert server.count() == 601
                server.retention = Retention(most_queries=500)
                server.retain()
            return super().__call__(texts)

    run("reembed", "--store", store_url, "--model", "new", encoder=Meanwhile)
    np.testing.assert_allclose(embeddings(store_url, ["late"]), Encoder("new")(["late"]), atol=1e-3)
    for use in (
        lambda: server.read([600]),
        lambda: next(server.rows()),
        lambda: server.embeddings(["late"]),
        lambda: server.score([("x", 1.0)]),
        lambda: server.revision(),
    ):
        with pytest.raises(EmbeddingModelChanged):
            use()
    server.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere.jsonl"], "nowhere.jsonl"),
        (["import", "{tmp}/a.csv"], "a history must be a"),
        (["export", "{tmp}/a.json"], "no store at"),
        (["stats"], "no store at"),
        (["reembed"], "no store at"),
        (["stats", "--store", "mysql://user:secret@host/name"], "must begin with"),
    ],
)
def test_what_can_not_be_done_is_said(tmp_path, arguments, message, capsys):
    (tmp_path / "a.csv").touch()
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    if "--store" not in arguments:
        arguments += ["--store", f"sqlite:///{tmp_path}/store.db"]
    with pytest.raises(SystemExit, match=message) as exit:
        run(*arguments)
    assert "secret" not in str(exit.value.code)
    assert not (tmp_path / "store.db").exists()


def test_an_empty_store_or_another_kind_of_file_is_not_exported(tmp_path, file):
    url = f"sqlite:///{tmp_path}/store.db"
    Database(url, "encoder", 8).close()
    with pytest.raises(SystemExit, match="nothing to export"):
        run("export", tmp_path / "out.json", "--store", url)
    run("import", file, "--store", url)
    with pytest.raises(SystemExit, match="a history must be a"):
        run("export", tmp_path / "out.csv", "--store", url)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow  # in processes that load the model
def test_the_command_with_the_real_embedding_model(tmp_path):
    questions = ["What is 2 + 2?", "How much is two plus two?", "Who wrote Hamlet?"]
    file = history(tmp_path / "a.jsonl", *map(item, questions))
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ops.store", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )

    done = command("import", str(file))
    assert done.returncode == 0, done.stderr
    assert "3 rows, 3 observations" in done.stdout
    assert "100%" in done.stderr
    url = f"sqlite:///{tmp_path}/state/llm-cores-on-ray-serve/store.db"
    sum, same, other = embeddings(url, questions)
    assert sum @ same > sum @ other + 0.3
    refused = command("import", str(history(tmp_path / "b.jsonl", item("a", 7))))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "b.jsonl, line 1" in refused.stderr
    assert command("nonsense").returncode == 2
