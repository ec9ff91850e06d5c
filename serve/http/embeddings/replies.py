"""From embeddings to what OpenAI's clients read.

Source: https://platform.openai.com/docs/api-reference/embeddings/object
"""

import base64
from typing import Any

from serve.embeddings import Embedded
from serve.http.embeddings.requests import EncodingFormat


def embedding_list(embedded: Embedded, encoding_format: EncodingFormat) -> dict[str, Any]:
    """The list of embeddings, in the order of the inputs.

    In base64, an embedding is its numbers as 32-bit floats, the lowest byte first.
    """
    vectors = embedded.embeddings.vectors
    written = (
        [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
        if encoding_format == "base64"
        else vectors.tolist()
    )
    tokens = embedded.embeddings.prompt_tokens
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(written)
        ],
        "model": embedded.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def headers_of(embedded: Embedded) -> dict[str, str]:
    """What a reply's headers say."""
    headers = {
        "x-router-model": embedded.model,
        "x-router-attempts": str(embedded.attempts),
    }
    if embedded.cost is not None:
        headers["x-router-cost"] = f"{embedded.cost:.9g}"
    return headers
