"""Promise: embeddings are close to the full model's, and don't depend on other texts."""

import json
from pathlib import Path

import numpy as np
import pytest

from deployments.embedding import minilm
from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from deployments.store.evidence import Floats32
from ops.demo.questions import HELD_OUT_FILE
from ops.minilm import make, original

TEXTS = [
    "How do I reverse a list in Python?",
    "What is the capital of France?",
    "Solve x^2 - 5x + 6 = 0 for x, and show each step of the way.",
    "东京的人口是多少？",
    "Ein längerer Satz, in dem es um das Wetter in Norddeutschland und um nichts weiter geht.",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def packaged() -> str:
    """The folder of the original model, in sentence-transformers' form."""
    return str(original())


def test_embeddings_are_close_to_the_full_models(encoder: Encoder, packaged: str) -> None:
    full = Encoder(packaged)(TEXTS)
    assert ((encoder(TEXTS) * full).sum(axis=1) > 0.98).all()


def test_the_shipped_files_are_those_that_the_original_weights_make(tmp_path: Path) -> None:
    make(original(), tmp_path)
    made = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    shipped = {file.name: file.read_bytes() for file in minilm.FOLDER.iterdir()}
    del shipped["README.md"]
    assert made == shipped


def nearest(embeddings: Floats32, n: int = 16) -> list[set[int]]:
    order = np.argsort(-embeddings @ embeddings.T, axis=1)
    return [set(row[:n].tolist()) for row in order]


def test_the_nearest_questions_are_the_full_models(encoder: Encoder, packaged: str) -> None:
    lines = HELD_OUT_FILE.read_text().splitlines()[:200]
    questions = [json.loads(line)["question"] for line in lines]
    pairs = zip(nearest(encoder(questions)), nearest(Encoder(packaged)(questions)), strict=True)
    assert np.mean([len(ours & theirs) / 16 for ours, theirs in pairs]) > 0.9


def test_an_embedding_has_length_1_and_does_not_depend_on_other_texts(encoder: Encoder) -> None:
    together = encoder(TEXTS)
    assert together.dtype == np.float32
    assert together.shape == (len(TEXTS), encoder.dimensions) == (5, 384)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.array_equal(together, np.concatenate([encoder([text]) for text in TEXTS]))


def test_no_texts_have_no_embeddings(encoder: Encoder, packaged: str) -> None:
    assert encoder([]).shape == (0, 384)
    assert Encoder(packaged)([]).shape == (0, 384)


def test_a_long_text_is_cut(encoder: Encoder) -> None:
    long = "word " * 100_000
    assert np.array_equal(encoder([long]), encoder([long[:20_000]]))


def test_half_a_surrogate_pair_is_embedded(encoder: Encoder, packaged: str) -> None:
    for some in (encoder, Encoder(packaged)):
        assert np.isfinite(some(["\ud83d half", ""])).all()


def test_the_default_model_has_one_name() -> None:
    assert Encoder("all-MiniLM-L6-v2").name == Encoder().name == DEFAULT_MODEL


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no embedding model"):
        _ = Encoder(str(tmp_path / "nowhere")).dimensions


def test_a_processor_without_the_8_bit_instructions_finds_the_same(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "_has_vnni", lambda: False)
    assert np.allclose(minilm.MiniLM()(TEXTS), encoder(TEXTS), atol=1e-3)
