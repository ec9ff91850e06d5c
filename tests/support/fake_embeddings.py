"""Fake providers of embeddings, each in its real wire format.

Sources: https://platform.openai.com/docs/api-reference/embeddings/create,
https://docs.cohere.com/reference/embed, https://ai.google.dev/api/embeddings and
https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings
"""

import base64
import struct
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Vector = list[float]


def vector_of(text: Any) -> Vector:
    """What the fakes make of an input: its length, and numbers that 32 bits hold exactly."""
    return [float(len(text)), 0.5, -0.25]


def openai_format(request: Request, body: Any) -> Response:
    """OpenAI's, vLLM's: in base64 if asked to, and the last one first."""
    inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _written(vector_of(each)[: body.get("dimensions")], body),
        }
        for index, each in enumerate(inputs)
    ]
    usage = {"prompt_tokens": 3 * len(inputs), "total_tokens": 3 * len(inputs)}
    return JSONResponse(
        {"object": "list", "data": data[::-1], "model": body["model"], "usage": usage}
    )


def _written(vector: Vector, body: Any) -> Any:
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def cohere_format(request: Request, body: Any) -> Response:
    """Cohere's."""
    texts = body["texts"]
    return JSONResponse(
        {
            "id": "1",
            "texts": texts,
            "embeddings": {"float": [vector_of(text) for text in texts]},
            "meta": {"billed_units": {"input_tokens": 3 * len(texts)}},
            "response_type": "embeddings_by_type",
        }
    )


def gemini_format(request: Request, body: Any) -> Response:
    """Gemini's."""
    texts = [each["content"]["parts"][0]["text"] for each in body["requests"]]
    return JSONResponse({"embeddings": [{"values": vector_of(text)} for text in texts]})


def ollama_format(request: Request, body: Any) -> Response:
    """Ollama's."""
    return JSONResponse(
        {
            "model": body["model"],
            "embeddings": [vector_of(text) for text in body["input"]],
            "prompt_eval_count": 3 * len(body["input"]),
        }
    )
