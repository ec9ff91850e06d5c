"""Promise: all embeddings are replaced at once, however often re-embedding was interrupted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from store_command import Encoder, embeddings, history, item, run, stats

from deployments.store.errors import EmbeddingModelChanged
from deployments.store.evidence import Floats32
from deployments.store.retention import Retention
from deployments.store.sql.database import Database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return history(tmp_path / "first.jsonl", *(item(f"query {n}", n % 2) for n in range(600)))


def test_reembedding_replaces_all_embeddings(
    store_url: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_interrupted_reembedding_resumes_and_is_never_seen_half_done(
    store_url: str, file: Path
) -> None:
    asked: list[str] = []

    class Killed(Encoder):
        def __call__(self, texts: Sequence[str]) -> Floats32:
            asked.extend(texts)
            if len(asked) > 300:
                raise KeyboardInterrupt
            return super().__call__(texts)

    class Counting(Encoder):
        def __call__(self, texts: Sequence[str]) -> Floats32:
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


def test_unfinished_embeddings_of_a_third_model_are_not_used(file: Path, tmp_path: Path) -> None:
    class Killed(Encoder):
        calls = 0

        def __call__(self, texts: Sequence[str]) -> Floats32:
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


def test_writes_while_reembedding_are_embedded_and_their_writer_is_then_refused(
    store_url: str, file: Path, tmp_path: Path
) -> None:
    run("import", file, "--store", store_url, "--model", "old")
    server = Database(store_url, "old", 8)
    late, first = history(tmp_path / "late.jsonl", item("late")), iter([True])

    class Meanwhile(Encoder):
        def __call__(self, texts: Sequence[str]) -> Floats32:
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
