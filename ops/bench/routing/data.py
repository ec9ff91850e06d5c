"""The recorded outcomes with their queries' embeddings, and the folds."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deployments.embedding.encoder import Encoder
from deployments.store.evidence import Floats32, Integers, Snapshot
from serve.routing.arrays import Floats
from serve.routing.prices import Price, costs, rates

DATA = Path(__file__).resolve().parents[4] / "shared" / "routing-data"
FOLDS = 5

Split = tuple[Integers, Integers]


@dataclass(frozen=True)
class Data:
    """Recorded outcomes of m models on n queries; arrays are (n, m), but `input_tokens` is (n,).

    `answers` are codes of final answers, equal where these are the same, -1 where none is given.
    Of data without recorded answers they are (n, 0).
    """

    name: str
    ids: list[str]
    train: npt.NDArray[np.bool_]
    queries: list[str]
    embeddings: Floats32
    input_tokens: Floats
    score: Floats
    output_tokens: Floats
    cost: Floats
    prices: list[Price]
    answers: Integers

    def snapshot(self, rows: Integers) -> Snapshot:
        """These rows as the history of past queries."""
        return Snapshot(
            [self.queries[row] for row in rows],
            self.embeddings[rows],
            self.score[rows].astype(np.float32),
            self.output_tokens[rows].astype(np.float32),
            np.ones((len(rows), len(self.prices)), np.float32),
        )

    def predicted_cost(self, rows: Integers, output_tokens: Floats) -> Floats:
        """USD, (rows, m), for answers of these lengths."""
        return costs(rates(self.prices), self.input_tokens[rows], output_tokens)


def load(name: str, folder: Path, cache: Path) -> Data:
    """Reads a file of the data; embeds its queries unless their embeddings are cached."""
    from pyarrow.parquet import read_table

    table = read_table(folder / f"{name}.parquet").to_pydict()
    meta = json.loads((folder / f"{name}.meta.json").read_text())
    models = meta["models"]

    def column(kind: str) -> Floats:
        return np.array([table[f"{kind}__{model}"] for model in models], np.float64).T

    return Data(
        name,
        table["id"],
        np.array(table["split"]) == "train",
        table["query"],
        embedded(table["query"], cache),
        np.array(table["input_tokens"], np.float64),
        column("score"),
        column("out"),
        column("cost"),
        [Price(*(np.array(meta["prices_usd_per_mtok"][model]) / 1e6)) for model in models],
        _answers(folder / f"{name}.answers.parquet", table["id"], models),
    )


def _answers(file: Path, ids: list[str], models: list[str]) -> Integers:
    from pyarrow.parquet import read_table

    if not file.exists():
        return np.zeros((len(ids), 0), np.int64)
    table = read_table(file).to_pydict()
    place = {name: row for row, name in enumerate(table["id"])}
    rows = [place[name] for name in ids]
    return np.array([table[f"ans__{model}"] for model in models], np.int64).T[rows]


def embedded(queries: list[str], cache: Path) -> Floats32:
    """The queries' embeddings, cached under a digest of the queries."""
    digest = hashlib.sha256("\0".join(queries).encode()).hexdigest()[:16]
    file = cache / f"{digest}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, Encoder()(queries))
    loaded: Floats32 = np.load(file)
    return loaded


def five_folds(data: Data) -> list[Split]:
    """(train, test) rows of each fold."""
    fold = np.array([int(hashlib.sha256(i.encode()).hexdigest(), 16) % FOLDS for i in data.ids])
    return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(FOLDS)]
