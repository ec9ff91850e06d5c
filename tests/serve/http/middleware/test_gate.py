"""Promise: a request reaches an endpoint only with a known key and within the limits."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from deployments.errors import LLMError, QuotaExceeded
from serve.access.exposure import check_exposure, is_loopback
from serve.access.keys import Caller, Keys, hash_of, new_key
from serve.config import ConfigError, ServerConfig
from serve.http.docs import PATHS, add_docs
from serve.http.failures import error_response
from serve.http.middleware.gate import caller_of, guard

KEY = new_key()
BEARER = {"authorization": f"Bearer {KEY}"}
TEAM = {"name": "team", "sha256": hash_of(KEY).hex(), "models": ["small"]}


async def unlimited(caller: Caller) -> None:
    """Counts nothing."""


def guarded(*, count: Any = unlimited, **server: Any) -> FastAPI:
    """An application of a few endpoints behind the gate."""
    app = FastAPI(docs_url=None, redoc_url=None)
    app.state.begun, app.state.go_on = asyncio.Queue(), asyncio.Event()
    config = ServerConfig.model_validate(server)

    @app.get("/health/live")
    @app.get("/who")
    async def who(request: Request) -> dict[str, Any]:
        caller = caller_of(request)
        return {"name": caller and caller.name, "headers": request.headers.raw}

    @app.post("/read")
    async def read(request: Request) -> dict[str, int]:
        length = 0
        async for part in request.stream():
            length += len(part)
            await app.state.begun.put(length)
        return {"length": length}

    @app.exception_handler(LLMError)
    async def refused(request: Request, error: LLMError) -> Response:
        return error_response(error, request.scope)

    @app.get("/slow")
    async def slow() -> StreamingResponse:
        await app.state.begun.put(None)

        async def text() -> AsyncIterator[str]:
            yield "first"
            await app.state.go_on.wait()

        return StreamingResponse(text())

    return guard(app, config, Keys(config, ["small", "large"]), count)


def client(app: FastAPI, url: str = "http://localhost", **more: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=url, **more)


@pytest.mark.parametrize(
    "path",
    [
        "/who",
        "/none",
        "/docs/",
        "/docs/none",
        "/openapi.json",
        "/redoc",
        "/console/live",
        "/health/live/",
    ],
)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"api-key": KEY}])
async def test_everything_needs_a_known_key(path: str, headers: dict[str, str]) -> None:
    async with client(guarded(keys=[TEAM])) as http:
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            reply = await http.request(method, path, headers=headers, params={"key": KEY})
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.json()["error"] == {
                "message": reply.json()["error"]["message"],
                "type": "invalid_request_error",
                "param": None,
                "code": "invalid_api_key",
            }


def basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"x-api-key": KEY},
        basic("", KEY),
        basic("anyone", KEY),
    ],
    ids=["bearer", "lower case", "x-api-key", "URL", "URL with a name"],
)
async def test_a_key_is_known_however_it_is_sent(headers: dict[str, str]) -> None:
    async with client(guarded(keys=[TEAM])) as http:
        assert (await http.get("/who", headers=headers)).json()["name"] == "team"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": KEY},
        {"authorization": f"Digest {KEY}"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Basic \xfc"},
        basic(KEY, ""),
        basic("team", f"{KEY}x"),
        {"authorization": "Bearer wrong", "x-api-key": KEY},
    ],
    ids=range(7),
)
async def test_a_key_in_a_wrong_place_is_unknown(headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    async with client(guarded(keys=[TEAM])) as http:
        assert (await http.get("/who", headers=raw)).status_code == 401


async def test_health_needs_no_key_but_knows_its_caller() -> None:
    async with client(guarded(keys=[TEAM])) as http:
        assert (await http.get("/health/live")).json()["name"] is None
        assert (await http.get("/health/live", headers=BEARER)).json()["name"] == "team"


async def test_the_docs_page_needs_no_key_but_has_limits() -> None:
    app = guarded(keys=[TEAM], max_concurrent_requests=1)
    add_docs(app)
    async with client(app) as http:
        for path in PATHS:
            reply = await http.get(path)
            assert reply.status_code == 200
            assert "default-src 'none'" in reply.headers["content-security-policy"]
        working = asyncio.create_task(http.get("/slow", headers=BEARER))
        await asyncio.wait_for(app.state.begun.get(), 5)
        assert (await http.get("/docs")).status_code == 429
        app.state.go_on.set()
        await working


async def test_the_docs_page_loads_nothing_from_other_hosts() -> None:
    app = guarded()
    add_docs(app)
    async with client(app) as http:
        page = (await http.get("/docs")).text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert {f"/{path}" for path in loaded if path != "data:,"} | {"/docs"} == PATHS
        assert "://" not in page


async def test_under_a_prefix_the_same_paths_are_open() -> None:
    app = FastAPI()
    app.mount("/llms", guarded(keys=[TEAM]))
    async with client(app) as http:
        assert (await http.get("/llms/health/live")).status_code == 200
        assert (await http.get("/llms/who")).status_code == 401
        assert (await http.get("/llms/who", headers=BEARER)).status_code == 200


async def test_web_sockets_are_rejected() -> None:
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/health/live", "headers": []}
    await guarded(keys=[TEAM])(scope, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_our_own_headers_are_removed_from_requests() -> None:
    ours = {"X-Router-Model": "large", "x-router-anything": "1", "x-other": "kept"}
    async with client(guarded()) as http:
        names = [name for name, _ in (await http.get("/who", headers=ours)).json()["headers"]]
    assert "x-other" in names
    assert not [name for name in names if name.startswith("x-router-")]


@pytest.mark.parametrize(
    "headers",
    [{f"x-{n}": "1" for n in range(101)}, {"x-long": "a" * 40_000}],
    ids=["many", "long"],
)
async def test_headers_are_limited(headers: dict[str, str]) -> None:
    async with client(guarded()) as http:
        for path in ("/who", "/health/live"):
            reply = await http.get(path, headers=headers)
            assert reply.status_code == 431
            assert reply.json()["error"]["code"] == "headers_too_large"


async def test_a_client_cannot_keep_its_slot_after_it_disconnects() -> None:
    async with client(guarded()) as http:
        reply = await http.get("/who", headers={"X-Request-Disconnect-Disabled": "?1"})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "x-request-disconnect-disabled"


async def test_a_key_over_its_quota_is_told_when_to_retry() -> None:
    async def count(caller: Caller) -> None:
        raise QuotaExceeded(f"{caller.name} has had its share", retry_after=7)

    async with client(guarded(keys=[TEAM], count=count)) as http:
        reply = await http.get("/who", headers=BEARER)
        assert reply.status_code == 429
        assert reply.headers["retry-after"] == "7"
        assert reply.json()["error"]["code"] == "rate_limit_exceeded"
        assert (await http.get("/health/live", headers=BEARER)).status_code == 200


async def test_beyond_its_limit_the_server_rejects_requests_at_once() -> None:
    """Also while answers stream; a slot is free again as soon as its answer has ended."""
    app = guarded(max_concurrent_requests=2)
    async with client(app) as http:
        working = [asyncio.create_task(http.get("/slow")) for _ in range(2)]
        for _ in working:
            await asyncio.wait_for(app.state.begun.get(), 5)
        reply = await http.get("/who")
        assert reply.status_code == 429
        assert reply.headers["retry-after"] == "1"
        assert reply.json()["error"]["code"] == "overloaded"
        assert (await http.get("/health/live")).status_code == 200
        app.state.go_on.set()
        assert [(await task).text for task in working] == ["first", "first"]
        assert (await http.get("/who")).status_code == 200


async def test_a_disconnect_frees_the_slot() -> None:
    app = guarded(max_concurrent_requests=1)
    async with client(app) as http:
        leaving = asyncio.create_task(http.get("/slow"))
        await asyncio.wait_for(app.state.begun.get(), 5)
        assert (await http.get("/who")).status_code == 429
        leaving.cancel()
        await asyncio.wait([leaving])
        assert (await http.get("/who")).status_code == 200


async def test_a_client_that_leaves_before_its_body_has_come_is_no_failure() -> None:
    begun = {"type": "http.request", "body": b"{", "more_body": True}
    messages = iter([begun, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/read", "query_string": b"", "headers": []}
    await guarded(allow_anonymous=True)(scope, receive, send)
    assert not sent


async def test_bodies_are_limited_together_even_if_they_arrive_slowly() -> None:
    app = guarded(max_body_bytes=1024, max_total_body_bytes=2048)
    go_on = asyncio.Event()

    async def trickle() -> AsyncIterator[bytes]:
        yield b"a" * 1000
        await go_on.wait()

    async with client(app) as http:
        slow = [asyncio.create_task(http.post("/read", content=trickle())) for _ in range(2)]
        for _ in slow:
            await asyncio.wait_for(app.state.begun.get(), 5)
        reply = await http.post("/read", content=b"a" * 100)
        assert reply.status_code == 429
        assert reply.headers["retry-after"] == "1"
        assert reply.json()["error"]["code"] == "overloaded"
        assert (await http.post("/read", content=b"a" * 48)).json() == {"length": 48}
        go_on.set()
        assert [(await task).json() for task in slow] == [{"length": 1000}] * 2
        assert (await http.post("/read", content=b"a" * 2000)).json() == {"length": 2000}


async def test_one_body_alone_always_fits() -> None:
    async with client(guarded(max_body_bytes=4096, max_total_body_bytes=1024)) as http:
        assert (await http.post("/read", content=b"a" * 4096)).json() == {"length": 4096}


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", None, 200),
        ("127.0.0.1:8000", "http://localhost:3000", 200),
        ("[::1]:8000", None, 200),
        ("LOCALHOST:8000", None, 200),
        ("localhost:8000", "https://evil.example", 403),
        ("localhost:8000", "http://localhost.evil.example", 403),
        ("localhost:8000", "null", 403),
        ("evil.example:8000", "http://evil.example:8000", 403),  # DNS says 127.0.0.1
        ("evil.example:8000", None, 403),
    ],
)
async def test_other_hosts_web_pages_do_not_reach_a_server_without_keys(
    host: str, origin: str | None, status: int
) -> None:
    headers = {"host": host, **({"origin": origin} if origin else {})}
    async with client(guarded()) as http:
        for path in ("/who", "/health/live"):
            assert (await http.get(path, headers=headers)).status_code == status
    # Where it is decided elsewhere who may call, it isn't here.
    for server, more in (({"allow_anonymous": True}, {}), ({"keys": [TEAM]}, BEARER)):
        async with client(guarded(**server)) as http:
            reply = await http.get("/who", headers={**headers, **more})
            assert reply.status_code == 200
            assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("origins", [["https://console.example"], ["*"]])
async def test_a_browsers_openai_client_passes_its_preflight(origins: list[str]) -> None:
    page = {"origin": "https://console.example", "host": "localhost:8000"}
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os,x-request-timeout-seconds",
    }
    async with client(guarded(cors_origins=origins)) as http:
        reply = await http.options("/who", headers={**page, **asks})
        assert reply.status_code == 200
        assert (await http.get("/who", headers=page)).status_code == 200


async def test_configured_web_pages_may_read_answers_and_errors() -> None:
    page = "https://console.example"
    preflight = {"origin": page, "access-control-request-method": "POST"}
    async with client(guarded(keys=[TEAM], cors_origins=[page])) as http:
        reply = await http.options("/who", headers=preflight)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == page
        refused = await http.get("/who", headers={"origin": page})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == page
        let_in = await http.get("/who", headers={"origin": page, **BEARER})
        assert "x-router-model" in let_in.headers["access-control-expose-headers"]
        other = await http.options("/who", headers={**preflight, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_without_keys_the_server_only_listens_on_this_machine() -> None:
    keyless = ServerConfig()
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", None):
        check_exposure(keyless, host)
    for host in ("0.0.0.0", "::", "192.168.0.5", "example.com", ""):
        with pytest.raises(ConfigError, match=r"server\.keys.*allow_anonymous"):
            check_exposure(keyless, host)
        check_exposure(ServerConfig(allow_anonymous=True), host)
        check_exposure(ServerConfig.model_validate({"keys": [TEAM]}), host)
    assert not is_loopback("localhost.evil.example")
