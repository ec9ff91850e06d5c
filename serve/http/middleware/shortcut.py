"""A way past FastAPI for the endpoints that nearly all requests are for."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import LLMError
from serve.http.failures import error_response
from serve.http.scopes import path_of


class Shortcut:
    """An ASGI middleware that has POST requests to some paths answered by their endpoint at once.

    FastAPI describes the endpoints like any other, but its routing, its dependencies and its exit
    stacks take more time than reading such a request, and these endpoints need none of them.

    Args:
        app: the application, for all other requests.
        endpoints: by their paths; their LLMErrors become responses, the others are for `app`'s
            outer middlewares.
    """

    def __init__(
        self, app: ASGIApp, endpoints: Mapping[str, Callable[[Request], Awaitable[Response]]]
    ) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        posted = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._endpoints.get(path_of(scope)) if posted else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive))
        except LLMError as error:
            response = error_response(error, scope)
        await response(scope, receive, send)
