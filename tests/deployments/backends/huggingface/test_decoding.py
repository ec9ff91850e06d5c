"""Promise: each request is sampled as it asks, whatever else is in the batch."""

import asyncio
from copy import deepcopy
from typing import Any

import pytest
from huggingface_requests import (
    answer,
    ask,
)

from deployments.backends.huggingface.backend import HuggingFaceBackend
from deployments.backends.huggingface.decoding import Decoding
from deployments.contract import ChatRequest


async def test_a_seed_draws_the_same_whatever_else_is_in_the_batch(
    random_weights: HuggingFaceBackend,
) -> None:
    def seeded(seed: int) -> ChatRequest:
        return ask(seed=seed, temperature=1.0, top_p=0.9, top_k=50, max_tokens=40)

    alone = [await answer(random_weights, seeded(seed)) for seed in (1, 2, 3)]
    others = [ask(f"{i}", temperature=i / 4, max_tokens=30) for i in range(8)]
    mixed = await asyncio.gather(
        *(answer(random_weights, request) for request in [*others, *map(seeded, (1, 2, 3))])
    )
    assert mixed[-3:] == alone
    assert len({reply.text for reply in alone}) == 3


async def test_without_a_seed_answers_differ(random_weights: HuggingFaceBackend) -> None:
    request = ask(temperature=1.0, max_tokens=40)
    replies = await asyncio.gather(*(answer(random_weights, request) for _ in range(3)))
    assert len({reply.text for reply in replies}) == 3


@pytest.mark.parametrize(
    "narrow",
    [{"temperature": 0.0}, {"temperature": 1e-9}, {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}],
)
async def test_parameters_narrow_the_choice_to_the_likeliest(
    random_weights: HuggingFaceBackend, narrow: dict[str, Any]
) -> None:
    likeliest = await answer(random_weights, ask(max_tokens=20))
    drawn = await answer(random_weights, ask(**{"temperature": 1.5, **narrow}, max_tokens=20))
    assert drawn == likeliest


async def test_a_top_k_over_the_vocabulary_is_no_limit(random_weights: HuggingFaceBackend) -> None:
    drawn = ask(temperature=1.0, seed=3, max_tokens=20)
    limited = ask(temperature=1.0, seed=3, max_tokens=20, top_k=10**6)
    assert await answer(random_weights, limited) == await answer(random_weights, drawn)


async def test_the_models_own_sampling_is_the_default(own: Any) -> None:
    backend = own(generation={"do_sample": True, "temperature": 1.2, "top_k": 40})
    first, again = [await answer(backend, ask(max_tokens=30)) for _ in range(2)]
    assert first.text != again.text
    greedy = [await answer(backend, ask(temperature=0.0, max_tokens=30)) for _ in range(2)]
    assert greedy[0] == greedy[1]


def test_decodings_survive_the_engines_copies() -> None:
    decoding = Decoding(3)
    assert deepcopy(decoding) is decoding
