"""Errors for unknown paths and methods, which say what there is instead."""

import re
from collections.abc import Iterable
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request

from deployments.errors import LLMError
from serve.http.aios.errors import LACKING
from serve.http.failures import from_status
from serve.http.scopes import path_of

_PREFIX = "/v1"
# Positions in a path at which an endpoint's path may begin; a client's path may have thousands.
_MOST_PLACES = 16
_QUOTED = 200  # characters


def explain(request: Request, error: HTTPException) -> tuple[LLMError, dict[str, str]]:
    """The error and its headers for a request that no endpoint matches.

    If the path ends like an endpoint's, the client's base URL is wrong, and the message says what
    it should be.
    """
    asked = f"{request.method} {request.url.path[:_QUOTED]}"
    headers, said = dict(error.headers or {}), error.detail
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = headers["Allow"].split(", ")
        headers["Allow"] = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
        said = f"method not allowed; use {headers['Allow']}"
    elif error.status_code == HTTPStatus.NOT_FOUND:
        said = LACKING.get(path_of(request.scope)) or _nothing_there(
            request, request.app.openapi()["paths"]
        )
    return from_status(error.status_code, f"{asked}: {said}"), headers


def _nothing_there(request: Request, paths: dict[str, dict[str, object]]) -> str:
    url, root = request.url, request.scope.get("root_path", "")
    if _is_misplaced(url.path.removeprefix(root), paths):
        return (
            f"no such path; set the client's base URL to {url.scheme}://{url.netloc}{root}{_PREFIX}"
        )
    served = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    return f"no such path; this server has {', '.join(served)}"


def _is_misplaced(path: str, paths: Iterable[str]) -> bool:
    """Whether a path ends like an endpoint's but begins differently, such as "/chat/completions" or
    "/v1/v1/chat/completions"."""
    places = [match.start() for match in re.finditer("/", path)][:_MOST_PLACES]
    ends = [path[place:] for place in places]
    wanted = "|".join(
        re.sub(r"\\\{.*?\\\}", ".+", re.escape(path.removeprefix(_PREFIX)))
        for path in paths
        if path.startswith(_PREFIX)
    )
    return any(re.fullmatch(wanted, end) for end in ends)
