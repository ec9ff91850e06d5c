"""Promise: a store can be filled, exported and inspected from a shell; what fails is reported on
stderr, with nothing half done."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from store_command import Encoder, embeddings, history, item, run, stats

from deployments.store.observations import Observation
from deployments.store.sql.database import Database

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return history(tmp_path / "first.jsonl", *(item(f"query {n}", n % 2) for n in range(600)))


def test_import_stats_export_and_import_again(
    store_url: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_stats_are_a_table(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    answer = Observation(
        "query 0",
        vector,
        "small",
        "answers",
        output_tokens=70,
        shape="json",
        identity="openai/gpt",
    )
    database.write([answer])
    database.close()
    run("stats", "--store", url)
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "  json: 70 tokens, - s",
        "  600 answers of an unknown model",
        "  1 answers of openai/gpt",
    ]


def test_a_file_with_bad_rows_is_refused_with_all_others_of_the_command(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    bad = history(tmp_path / "bad.jsonl", item("a"), item("b", 7), item(""), item("c"))
    with pytest.raises(SystemExit, match="2 bad rows, so nothing was imported"):
        run("import", file, bad, "--store", url)
    told = capsys.readouterr().err
    assert "bad.jsonl, line 2: the score of 'small' must be between 0 and 1" in told
    assert "bad.jsonl, line 3: 'query' must be non-empty text" in told
    assert not (tmp_path / "store.db").exists()
    run("import", file, bad, "--store", url, "--skip-bad-rows")
    assert "2 rows, 2 observations, 2 bad rows skipped" in capsys.readouterr().out
    assert stats(url, capsys)["queries"] == 602


def test_many_bad_rows_are_not_all_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = history(tmp_path / "bad.jsonl", *[item("") for _ in range(100)])
    with pytest.raises(SystemExit, match="100 bad rows"):
        run("import", bad, "--store", f"sqlite:///{tmp_path}/store.db")
    told = capsys.readouterr().err
    assert told.count("'query' must be text") < 30
    assert "and 80 more bad rows" in told


def test_a_new_store_takes_the_given_model_and_keeps_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    run("import", file, "--store", url, "--model", "wide")
    run("import", history(tmp_path / "more.jsonl", item("more")), "--store", url)
    assert stats(url, capsys)["embedding_model"] == "wide"
    np.testing.assert_allclose(embeddings(url, ["more"]), Encoder("wide")(["more"]), atol=1e-3)
    with pytest.raises(SystemExit, match="reembed"):
        run("import", file, "--store", url, "--model", "another")


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
def test_what_fails_is_reported(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").touch()
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    if "--store" not in arguments:
        arguments += ["--store", f"sqlite:///{tmp_path}/store.db"]
    with pytest.raises(SystemExit, match=message) as exit:
        run(*arguments)
    assert "secret" not in str(exit.value.code)
    assert not (tmp_path / "store.db").exists()


def test_an_empty_store_or_an_unknown_format_is_not_exported(tmp_path: Path, file: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    Database(url, "encoder", 8).close()
    with pytest.raises(SystemExit, match="nothing to export"):
        run("export", tmp_path / "out.json", "--store", url)
    run("import", file, "--store", url)
    with pytest.raises(SystemExit, match="a history must be a"):
        run("export", tmp_path / "out.csv", "--store", url)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow  # in processes that load the model
def test_the_command_with_the_real_embedding_model(tmp_path: Path) -> None:
    questions = ["What is 2 + 2?", "How much is two plus two?", "Who wrote Hamlet?"]
    file = history(tmp_path / "a.jsonl", *map(item, questions))
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
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
