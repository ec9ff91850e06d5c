"""Promise: each request is logged in one line: what answered, at what cost, and no prompts."""

import json
import logging
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from recorded import Recorded
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.errors import NotPermitted, UnsupportedParameter
from serve.http.failures import error_response
from serve.http.middleware.access_log import SOCKET, AccessLog, access_of

SECRET = "the text of a prompt"


async def answer(request: Request) -> Response:
    access = access_of(request)
    access.asked, access.quality, access.wanted = "auto", 0.98, 0.96
    headers = {"x-router-model": "m", "x-router-attempts": "2", "x-router-cost": "3e-07"}
    return JSONResponse({"text": SECRET}, headers=headers)


async def refuse(request: Request) -> Response:
    param = (await request.body()).decode()
    return error_response(UnsupportedParameter(SECRET, param=param), request.scope)


async def stream(request: Request) -> Response:
    async def parts() -> Any:
        yield SECRET
        raise ConnectionError("the client disconnected")

    return StreamingResponse(parts())


async def metrics(request: Request) -> Response:
    if "key" in request.headers:
        return Response("# all is well")
    return error_response(NotPermitted(SECRET), request.scope)


async def fail(request: Request) -> Response:
    raise ValueError(SECRET)


def client() -> httpx.AsyncClient:
    app = Starlette(
        routes=[
            Route("/answer", answer),
            Route("/refuse", refuse, methods=["POST"]),
            Route("/stream", stream),
            Route("/fail", fail),
            Route("/health/ready", answer),
            Route("/metrics", metrics),
            Route("/console/live", metrics),
        ]
    )
    app.add_middleware(AccessLog)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """The lines logged, parsed; the log never has the text of a prompt or an answer."""
    caplog.set_level(logging.INFO, "ray.serve")
    logging.getLogger("ray.serve").addHandler(caplog.handler)

    def read() -> list[dict[str, Any]]:
        assert SECRET not in caplog.text
        told = [each.getMessage() for each in caplog.records if each.name == "ray.serve"]
        return [json.loads(line.removeprefix("access ")) for line in told]

    yield read
    logging.getLogger("ray.serve").removeHandler(caplog.handler)


async def test_an_answer_is_logged_with_its_model_cost_and_quality(lines: Any) -> None:
    async with client() as http:
        await http.get("/answer")
        await http.get("/health/ready")
    (line,) = lines()
    assert line.pop("seconds") >= 0
    assert line == {
        "method": "GET",
        "path": "/answer",
        "status": 200,
        "whole": True,
        "asked": "auto",
        "model": "m",
        "attempts": 2,
        "cost": 3e-07,
        "quality": 0.98,
        "wanted": 0.96,
    }


async def test_an_error_is_logged_by_its_code_and_field(lines: Any) -> None:
    async with client() as http:
        await http.post("/refuse", content="messages[0].content")
        await http.post("/refuse", content="\x1b[31m" + SECRET)
        await http.get("/fail")
    known, made_up, unforeseen = lines()
    assert (known["status"], known["error"]) == (400, "unsupported_parameter")
    assert known["param"] == "messages[0].content"
    assert "param" not in made_up
    assert (unforeseen["status"], unforeseen["error"]) == (500, "internal_error")


@pytest.mark.parametrize("path", ["/metrics", "/console/live"])
async def test_of_polls_only_those_that_are_refused_are_logged(path: str, lines: Any) -> None:
    recorded = Recorded()
    async with client() as http:
        await http.get(path, headers={"key": "right"})
        await http.get(path)
    (line,) = lines()
    assert (line["path"], line["status"], line["error"]) == (path, 403, "not_permitted")
    assert recorded("llm_errors_total", code="not_permitted") == 1


async def test_a_response_that_was_cut_off_is_logged_as_such(lines: Any) -> None:
    async with client() as http:
        await http.get("/stream")
        await http.get("/answer/" + SECRET)
    cut, unknown = lines()
    assert not cut["whole"]
    assert unknown["path"] == "…"


async def test_lines_also_go_to_a_socket_without_waiting_for_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "access")
    monkeypatch.setenv(SOCKET, path)
    async with client() as http:
        await http.get("/answer")  # the socket isn't there yet
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(path)
            for _ in range(2000):  # more than its buffer holds
                await http.get("/answer")
            assert json.loads(told.recv(2**14))["model"] == "m"
