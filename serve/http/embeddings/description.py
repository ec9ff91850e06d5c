"""What /openapi.json says about embeddings."""

from typing import Any, Literal

from typing_extensions import TypedDict

from deployments.errors import ContentFiltered
from serve.http.embeddings.requests import EmbeddingBody
from serve.http.openapi import ANSWER, ANSWER_HEADERS, KEY, TIMEOUT, errors, takes


class EmbeddingItem(TypedDict):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingTokens(TypedDict):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """OpenAI's list of embeddings, one for each input."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingTokens


_OWN = "sentence-transformers/all-MiniLM-L6-v2"

EMBEDDINGS: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {
            "model": EmbeddingList,
            "headers": {
                name: ANSWER_HEADERS[name]
                for name in ("x-router-model", "x-router-attempts", "x-router-cost")
            },
        },
        **errors(*(kind for kind in ANSWER if kind is not ContentFiltered)),
    },
    "openapi_extra": {
        "parameters": [TIMEOUT],
        **takes(
            EmbeddingBody,
            text={"model": _OWN, "input": "What is 7 plus 5?"},
            texts={"model": _OWN, "input": ["one", "two"], "encoding_format": "base64"},
        ),
    },
}
