"""What /docs and /openapi.json say about the console's endpoints."""

from typing import Any

from deployments.errors import ForbiddenOrigin, Unauthenticated
from serve.http.console.schemas import LiveReply, TradeoffReply
from serve.http.openapi import HEADERS, KEY, errors
from serve.http.schemas import ErrorReply

_CALLER = (*HEADERS, Unauthenticated, ForbiddenOrigin)

LIVE: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {"model": LiveReply},
        404: {"model": ErrorReply, "description": "The console is switched off"},
        **errors(*_CALLER),
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "after",
                "in": "query",
                "description": "The `cursor` of the reply before: only newer requests are listed",
                "schema": {"type": "string"},
            }
        ],
    },
}

TRADEOFF: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {"model": TradeoffReply},
        404: {
            "model": ErrorReply,
            "description": "The console is switched off, or there is nothing to predict from",
        },
        **errors(*_CALLER),
    },
}
