"""`python -m ops.store` in this process, with an embedding model that costs nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from deployments.store.evidence import Floats32
from deployments.store.observations import key_of
from deployments.store.sql.database import Database
from ops.cli.app import alone


class Encoder:
    """A small embedding model, whose embeddings depend on the text and on its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dimensions = 8 if name != "wide" else 16

    def __call__(self, texts: Sequence[str]) -> Floats32:
        return np.stack([self._embedding(text) for text in texts])

    def _embedding(self, text: str) -> Floats32:
        seed = int.from_bytes(key_of(self.name + text)[:4], "big")
        vector = np.random.default_rng(seed).standard_normal(self.dimensions)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def run(*arguments: object, encoder: type[Encoder] = Encoder) -> None:
    with patch("ops.store.Encoder", encoder):
        try:
            alone("store", "ops.store", [str(argument) for argument in arguments])
        except SystemExit as ended:
            if ended.code:
                raise


def item(query: str, score: float = 1) -> dict[str, Any]:
    output = {"model_name": "small", "correctness": score, "output_token_length": 10}
    return {"query": query, "input_token_length": 4, "outputs": [output]}


def history(path: Path, *items: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, items)))
    return path


def stats(url: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    run("stats", "--store", url, "--json")
    stats: dict[str, Any] = json.loads(capsys.readouterr().out)
    return stats


def embeddings(url: str, texts: Sequence[str]) -> Floats32:
    database = Database(url)
    found = database.embeddings(texts)
    database.close()
    assert all(embedding is not None for embedding in found)
    return np.stack([embedding for embedding in found if embedding is not None])
