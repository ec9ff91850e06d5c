"""From the bytes of a body to a request."""

import secrets
from typing import Any

from pydantic import ValidationError

from deployments.contract import ChatRequest
from serve.http.bodies.fields import check_schemas, explain, fields_of
from serve.request import Request, RoutingWishes

_NO_WISHES = RoutingWishes()


def new_id() -> str:
    """A fresh id for a completion."""
    return f"chatcmpl-{secrets.token_hex(16)}"


def parse(body: bytes) -> Request:
    """Reads the body of `POST /v1/chat/completions`.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    fields = fields_of(body)
    # OpenAI's clients send null for fields that are left out.
    fields = {key: value for key, value in fields.items() if value is not None}
    wishes: dict[str, Any] = {k: fields.pop(k) for k in ("models", "router") if k in fields}
    try:
        chat = ChatRequest.model_validate(fields)
        routing = RoutingWishes.model_validate(wishes) if wishes else _NO_WISHES
        request = Request(chat, routing, new_id())
    except ValidationError as error:
        raise explain(error, {**fields, **wishes}) from None
    check_schemas(chat)
    return request
