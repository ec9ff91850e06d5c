"""From the bytes of a legacy completion's body to a request.

Source: https://platform.openai.com/docs/api-reference/completions/create
"""

import secrets
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, create_model

from deployments.contract import ChatRequest
from deployments.errors import UnsupportedParameter
from serve.http.bodies.fields import explain, fields_of
from serve.request import Request, RoutingWishes

MOST_TOKENS = 16
"""OpenAI's own default of `max_tokens` for this API."""

# The parameters that a completion and a chat have in common.
_SHARED = (
    *("model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "top_k", "min_p"),
    *("stop", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty"),
    *("logit_bias", "ignore_eos", "user"),
)
# Parameters that chat models have no counterpart of, the value that asks for nothing, and what
# to do instead.
_REFUSED: dict[str, tuple[Any, str]] = {
    "n": (1, "send the request once for each answer"),
    "best_of": (1, "send the request again for another answer"),
    "echo": (False, "put the prompt before the answer yourself"),
    "suffix": ("", "chat models don't insert text; say in the prompt what is to follow"),
}


class _Completion(RoutingWishes):
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    n: Literal[1] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None


_fields: dict[str, Any] = {
    name: (field.annotation, field)
    for name, field in ChatRequest.model_fields.items()
    if name in _SHARED
}
CompletionBody = create_model(
    "CompletionBody",
    __base__=_Completion,
    __doc__=f"""OpenAI's legacy completions request, for chat models: the prompt becomes the user's
    message. Unknown fields are rejected; null counts as left out. `max_tokens` is {MOST_TOKENS}
    unless it is given. `model`, `models` and `router` are as in a chat completion.""",
    **_fields,
)


def parse(body: bytes) -> Request:
    """Reads the body of `POST /v1/completions`.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    fields = {key: value for key, value in fields_of(body).items() if value is not None}
    _refuse(fields)
    wishes = {key: fields[key] for key in ("models", "router") if key in fields}
    try:
        CompletionBody.model_validate(fields)
        chat = ChatRequest.model_validate(_chat(fields))
        routing = RoutingWishes.model_validate(wishes)
    except ValidationError as error:
        raise explain(error, fields) from None
    return Request(chat, routing, f"cmpl-{secrets.token_hex(16)}")


def _chat(fields: dict[str, Any]) -> dict[str, Any]:
    prompt = fields["prompt"]
    chat = {name: fields[name] for name in _SHARED if name in fields}
    if "logprobs" in fields:
        chat |= {"logprobs": True, "top_logprobs": fields["logprobs"]}
    text = prompt if isinstance(prompt, str) else prompt[0]
    return {"max_tokens": MOST_TOKENS, **chat, "messages": [{"role": "user", "content": text}]}


def _refuse(fields: dict[str, Any]) -> None:
    """Raises UnsupportedParameter for what OpenAI's API has and this one doesn't."""
    for name, (neutral, instead) in _REFUSED.items():
        value = fields.get(name, neutral)
        if type(value) is type(neutral) and value != neutral:
            raise UnsupportedParameter(f"'{name}' is not supported here; {instead}", param=name)
    prompt = fields.get("prompt")
    if not isinstance(prompt, list) or not prompt:
        return
    if isinstance(prompt[0], int | list):
        raise UnsupportedParameter(
            "'prompt' can't be token ids, since each model has its own tokens; send text",
            param="prompt",
        )
    if len(prompt) > 1:
        raise UnsupportedParameter(
            "'prompt' can't be several prompts; send a request for each of them", param="prompt"
        )
