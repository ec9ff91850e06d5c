"""What /openapi.json says about legacy completions."""

from typing import Any, Literal

from typing_extensions import TypedDict

from deployments.answer import FinishReason
from serve.http.completions.requests import CompletionBody
from serve.http.openapi import ANSWER, ANSWER_HEADERS, KEY, TIMEOUT, errors, takes
from serve.http.schemas import Tokens


class TextLogprobs(TypedDict):
    """For each token: itself, its log probability, those of the likeliest ones in its place, and
    at which character of the text it begins."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(TypedDict):
    index: Literal[0]
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


class TextCompletion(TypedDict):
    """OpenAI's legacy completion. `model` is the model that answered."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Tokens


_PROMPT = {"model": "auto", "prompt": "What is 7 plus 5?"}

COMPLETIONS: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {
            "model": TextCompletion,
            "description": (
                "The answer. With `stream: true`, events that each hold a `text_completion` with a "
                "piece of it, then `[DONE]`. That with the `finish_reason` has a field `router`, "
                "as in a chat completion. If the answer breaks off, the last event holds an "
                "`error`."
            ),
            "content": {
                "text/event-stream": {
                    "example": 'data: {"object": "text_completion", …}\n\ndata: [DONE]\n\n'
                }
            },
            "headers": ANSWER_HEADERS,
        },
        **errors(*ANSWER),
    },
    "openapi_extra": {
        "parameters": [TIMEOUT],
        **takes(CompletionBody, prompt=_PROMPT, stream={**_PROMPT, "stream": True}),
    },
}
