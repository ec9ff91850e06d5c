"""A way past FastAPI for the endpoint that nearly all requests are for."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import LLMError
from serve.http.failures import error_response
from serve.http.scopes import path_of


class Shortcut:
    """An ASGI middleware that has POST requests to one path answered by their endpoint at once.

    FastAPI describes the endpoint like any other, but its routing, its dependencies and its exit
    stacks take more time than reading such a request, and the endpoint needs none of them.

    Args:
        app: the application, for all other requests.
        path: the path.
        endpoint: the endpoint; its LLMErrors become responses, the others are for `app`'s outer
            middlewares.
    """

    def __init__(
        self, app: ASGIApp, path: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope) != self._path:
            await self._app(scope, receive, send)
            return
        try:
            response = await self._endpoint(Request(scope, receive))
        except LLMError as error:
            response = error_response(error)
        await response(scope, receive, send)
