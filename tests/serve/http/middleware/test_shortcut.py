"""Promise: the endpoint that FastAPI is passed by for answers as it would behind FastAPI."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from deployments.errors import LLMError, Overloaded
from serve.http.middleware.shortcut import Shortcut

PATH = "/v1/ask"


async def ask(request: Request) -> Response:
    kind = (await request.body()).decode()
    if kind == "refuse":
        raise Overloaded("full", retry_after=2)
    if kind == "fail":
        raise ValueError("a secret")
    return PlainTextResponse("directly")


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/v1/other")
    @app.post(PATH)
    async def behind() -> Response:
        return PlainTextResponse("by FastAPI")

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return JSONResponse({"code": LLMError.code}, 500)

    app.add_middleware(Shortcut, endpoints={PATH: ask})
    return app


def client(app: Any, **more: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, **more)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_only_post_requests_to_its_path_pass_fastapi_by() -> None:
    async with client(application()) as http:
        assert (await http.post(PATH)).text == "directly"
        assert (await http.post("/v1/other")).text == "by FastAPI"
        assert (await http.get(PATH)).status_code == 405
        assert (await http.post(PATH + "/none")).status_code == 404


async def test_under_a_prefix_the_path_is_the_rest() -> None:
    async with client(application(), root_path="/llms") as http:
        assert (await http.post("/llms" + PATH)).text == "directly"


@pytest.mark.parametrize(
    ("body", "status", "told"), [("refuse", 429, "overloaded"), ("fail", 500, "internal_error")]
)
async def test_errors_become_responses(body: str, status: int, told: str) -> None:
    async with client(application()) as http:
        reply = await http.post(PATH, content=body)
    assert reply.status_code == status
    assert told in reply.text
    assert "secret" not in reply.text
    assert ("retry-after" in reply.headers) == (status == 429)
