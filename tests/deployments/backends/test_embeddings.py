"""Promise: a provider's embeddings are those of the inputs, in their order, or an error."""

import base64
from typing import Any

import numpy as np
import pytest

from deployments.backends.embeddings import read_embeddings
from deployments.contract import EmbeddingRequest
from deployments.errors import ProviderError

TWO = EmbeddingRequest(model="m", input=["one", "three"])
NUMBERS = np.array([0.1, -2.5], np.float32)


def test_numbers_and_base64_say_the_same() -> None:
    coded = base64.b64encode(NUMBERS.astype("<f4").tobytes()).decode()
    data = [{"index": 1, "embedding": NUMBERS.tolist()}, {"index": 0, "embedding": coded}]
    read = read_embeddings(data, {"prompt_tokens": 7}, TWO)
    assert read.vectors.dtype == np.float32
    assert np.array_equal(read.vectors, [NUMBERS, NUMBERS])
    assert read.prompt_tokens == 7


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "7"}, {"prompt_tokens": -1}])
def test_without_a_count_the_tokens_are_estimated(usage: Any) -> None:
    data = [{"embedding": [1.0]}, {"embedding": [2.0]}]
    read = read_embeddings(data, usage, TWO)
    assert read.vectors.tolist() == [[1.0], [2.0]]
    assert read.prompt_tokens == 3
    ids = EmbeddingRequest(model="m", input=[[1, 2, 3], [4]])
    assert read_embeddings(data, usage, ids).prompt_tokens == 4


GOOD = {"index": 0, "embedding": [1.0, 2.0]}


@pytest.mark.parametrize(
    "other",
    [
        None,
        5,
        {},
        GOOD,
        {"index": 2, "embedding": [1.0, 2.0]},
        {"index": -1, "embedding": [1.0, 2.0]},
        {"index": "1", "embedding": [1.0, 2.0]},
        {"index": 1, "embedding": [1.0]},
        {"index": 1, "embedding": []},
        {"index": 1, "embedding": [[1.0], [2.0]]},
        {"index": 1, "embedding": [1.0, None]},
        {"index": 1, "embedding": [1.0, 10**400]},
        {"index": 1, "embedding": [1.0, float("nan")]},
        {"index": 1, "embedding": "AAAA!"},
        {"index": 1, "embedding": "AAAAAA=="},
        {"index": 1, "embedding": {"a": 1}},
    ],
)
def test_what_is_malformed_is_the_providers_fault(other: Any) -> None:
    with pytest.raises(ProviderError, match="'m' failed: its provider sent malformed"):
        read_embeddings([GOOD, other], None, TWO)


@pytest.mark.parametrize("data", [None, {}, "x", [GOOD], [GOOD] * 3, []])
def test_so_is_another_number_of_them(data: Any) -> None:
    with pytest.raises(ProviderError):
        read_embeddings(data, None, TWO)
