"""Promise: a client that uses a wrong path or method is told the right one."""

import httpx
import pytest

from serve.http.api import create_api
from serve.http.middleware.head import HeadAsGet


def client(prefix: str = "") -> httpx.AsyncClient:
    """A client of those endpoints that need no running router."""
    transport = httpx.ASGITransport(HeadAsGet(create_api()), root_path=prefix)
    return httpx.AsyncClient(transport=transport, base_url=f"http://localhost:8000{prefix}")


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/images/generations", "/v1", "/none"])
async def test_an_unknown_path_lists_the_known_ones(path: str) -> None:
    async with client() as http:
        reply = await http.post(path, json={})
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "not_found"
    for served in ("POST /v1/chat/completions", "GET /v1/models", "GET /health"):
        assert served in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completions/chat/completions",
        "/api/v1/chat/completions",
        "/openai/models",
        "/models/some/name",
        "/v1/v1/models/name",
        "/a" * 5 + "/feedback",
    ],
)
@pytest.mark.parametrize("prefix", ["", "/llms"])
async def test_a_wrong_base_url_is_told_the_right_one(prefix: str, path: str) -> None:
    async with client(prefix) as http:
        reply = await http.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "not_found"
    assert f"base URL to http://localhost:8000{prefix}/v1" in reply.json()["error"]["message"]


async def test_a_path_with_very_many_parts_is_simply_not_found() -> None:
    async with client() as http:
        assert (await http.get("/a" * 5000 + "/feedback")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/name", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(method: str, path: str, allowed: str) -> None:
    async with client() as http:
        reply = await http.request(method, path)
    assert reply.status_code == 405
    assert reply.headers["allow"] == allowed
    if method != "HEAD":
        assert reply.json()["error"]["code"] == "method_not_allowed"
        assert allowed in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/docs.js"])
async def test_head_is_get_without_the_body(path: str) -> None:
    async with client() as http:
        whole, head = await http.get(path), await http.head(path)
    assert whole.status_code == head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == whole.headers["content-length"] != "0"
