"""Reads embeddings in OpenAI's form, and checks that they are what was asked for.

Source: https://platform.openai.com/docs/api-reference/embeddings/object
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deployments.contract import EmbeddingRequest, Embeddings
from deployments.errors import ProviderError
from deployments.estimates import tokens
from deployments.store.evidence import Floats32

_MOST_TOKENS = 2**31


def read_embeddings(data: Any, usage: Any, request: EmbeddingRequest) -> Embeddings:
    """The embeddings in a provider's reply.

    Args:
        data: its field of that name: objects with `embedding` (numbers, or base64 of 32-bit ones)
            and `index`.
        usage: its field of that name. Where there is none, the tokens are estimated.
        request: what they answer.

    Raises:
        ProviderError: it isn't one finite vector of the same length for each input.
    """
    try:
        vectors = _vectors(data, len(request.input))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ProviderError(
            f"model '{request.model}' failed: its provider sent malformed embeddings ({error})"
        ) from None
    return Embeddings(vectors, _prompt_tokens(usage, request))


def _vectors(data: Sequence[Any], count: int) -> Floats32:
    rows: dict[int, Floats32] = {}
    for position, item in enumerate(data):
        index = item.get("index")
        rows[position if index is None else index] = _vector(item["embedding"])
    if sorted(rows) != list(range(count)):
        raise ValueError(f"{len(rows)} for {count} inputs")
    vectors = np.stack([rows[index] for index in range(count)])
    if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
        raise ValueError("one is no vector of finite numbers")
    return vectors


def _vector(written: Any) -> Floats32:
    if isinstance(written, str):
        return np.frombuffer(base64.b64decode(written, validate=True), "<f4").astype(np.float32)
    return np.array(written, np.float32)


def _prompt_tokens(usage: Any, request: EmbeddingRequest) -> int:
    said = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    if isinstance(said, int) and said > 0:
        return min(said, _MOST_TOKENS)
    return sum(tokens(each) if isinstance(each, str) else len(each) for each in request.input)
