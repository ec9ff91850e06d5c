"""Promise: the deployment embeds waiting texts together, and errors reach only their callers."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from ray import serve as rayserve

from deployments.config import Autoscaling
from deployments.embedding.cache import CachedEmbedder
from deployments.embedding.embedder import Embedder, deploy_embedder
from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from deployments.store.evidence import Floats32

TEXTS = [
    "How do I reverse a list?",
    "What is the capital of France?",
    "东京的人口是多少？",
    "",
    "x",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


async def test_calls_during_a_batch_form_the_next_batch(encoder: Encoder) -> None:
    embedder = Embedder(DEFAULT_MODEL)
    batches: list[int] = []

    class Counting(Encoder):
        def __call__(self, texts: Sequence[str]) -> Floats32:
            batches.append(len(texts))
            return encoder(texts)

    embedder._encoder = Counting()
    answers = await asyncio.gather(*(embedder([text]) for text in TEXTS))
    assert np.array_equal(np.concatenate(answers), encoder(TEXTS))
    assert len(batches) < len(TEXTS)
    assert sum(batches) == len(TEXTS)


async def test_an_error_reaches_its_callers_and_the_next_call_works(encoder: Encoder) -> None:
    embedder = Embedder(DEFAULT_MODEL)
    wrong: list[str] = [7]  # type: ignore[list-item]
    with pytest.raises(TypeError):
        await embedder(wrong)
    assert np.array_equal(await embedder(TEXTS), encoder(TEXTS))


async def test_a_cancelled_call_does_not_affect_others(encoder: Encoder) -> None:
    embedder = Embedder(DEFAULT_MODEL)
    calls = [asyncio.ensure_future(embedder([text])) for text in TEXTS]
    await asyncio.sleep(0)
    calls[0].cancel()
    answers = await asyncio.gather(*calls[1:])
    assert np.array_equal(np.concatenate(answers), encoder(TEXTS[1:]))


async def test_the_deployment_embeds_on_ray_serve(ray_cluster: None, encoder: Encoder) -> None:
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
