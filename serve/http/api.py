"""The HTTP API: its endpoints, the page /docs, and the responses when an endpoint fails."""

import logging

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from deployments.errors import LLMError
from serve.http.console.page import add_page
from serve.http.docs import add_docs
from serve.http.failures import error_response
from serve.http.middleware.shortcut import Shortcut
from serve.http.routes import (
    aios,
    chat,
    completions,
    console,
    embeddings,
    feedback,
    health,
    messages,
    metrics,
    models,
    responses,
    route,
)
from serve.http.unknown_paths import explain

logger = logging.getLogger("ray.serve")

# The endpoints, in the order in which /docs shows them.
_PARTS = (
    chat,
    responses,
    messages,
    completions,
    embeddings,
    aios,
    route,
    feedback,
    models,
    health,
    metrics,
    console,
)
# Those that most requests are for.
_SHORTCUTS = {
    chat.PATH: chat.chat_completions,
    responses.PATH: responses.responses,
    messages.PATH: messages.messages,
    completions.PATH: completions.completions,
    embeddings.PATH: embeddings.embeddings,
    aios.QUERY: aios.query,
}


def create_api() -> FastAPI:
    """The application. Its endpoints need a `Server`, attached before the first request."""
    api = FastAPI(
        title="LLM Cores on Ray Serve",
        description="One endpoint over many language models.",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    api.add_middleware(Shortcut, endpoints=_SHORTCUTS)
    for part in _PARTS:
        api.include_router(part.router)
    add_page(api)
    add_docs(api)  # last, since routes are tried in order
    api.add_exception_handler(LLMError, _llm_error)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(Exception, _unforeseen)
    return api


async def _llm_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LLMError)
    return error_response(error, request.scope)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    explained, headers = explain(request, error)
    return error_response(explained, request.scope, headers)


async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(LLMError("internal error; see the server's log"), request.scope)
