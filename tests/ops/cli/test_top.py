"""Promise: `llm-cores top` shows what the server's console knows, to people and programs."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from listening import listening
from rich.console import Console
from serve_fixtures import in_repository
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ops.cli.app import main
from ops.client.screen import screen
from ops.client.top import latest


def model(name: str, **fields: Any) -> dict[str, Any]:
    now = {
        "requests_per_s": 0.5,
        "output_tokens_per_s": 12.0,
        "errors_per_s": 0.0,
        "usd_per_s": 0.001,
        "first_token_s": {"p50": 0.02, "p90": 1.25},
        "duration_s": {"p50": None, "p90": None},
    }
    replicas = {"running": 1, "starting": 1, "wanted": 2}
    known = {"available": True, "status": "available", "circuit": "closed", "replicas": replicas}
    return {"name": name, **known, "in_flight": 3, "queued": 0, "now": now, **fields}


def request(id: str, **fields: Any) -> dict[str, Any]:
    whole = {"at": 1795883957.9, "asked": "auto", "model": "small", "reason": f"why {id}"}
    figures = {"completion_tokens": 3, "cost": 3.2e-7, "first_token_s": 0.02, "seconds": 0.05}
    return {"id": id, **whole, **figures, "status": 200, "error": None, "rescued": [], **fields}


def seen(*requests: dict[str, Any], **fields: Any) -> dict[str, Any]:
    head = {"at": 1795883958.2, "version": "0.1.0", "strategy": "smart", "routers": 2}
    models = [model("small"), model("large", available=False, circuit="open", now=None)]
    known = {
        "smart": True,
        "performance_requirement": 0.96,
        "caller": {"name": None, "all_traffic": True},
    }
    return {**head, **known, "models": models, "requests": requests, "cursor": "1", **fields}


@contextmanager
def console(*looks: dict[str, Any]) -> Iterator[tuple[str, list[str | None]]]:
    """A server whose console shows these, the last one again and again; and the cursors given."""
    cursors: list[str | None] = []

    async def live(request: Request) -> JSONResponse:
        cursors.append(request.query_params.get("after"))
        return JSONResponse(looks[min(len(cursors), len(looks)) - 1])

    with listening(Starlette(routes=[Route("/console/live", live)])) as url:
        yield url, cursors


def rows(text: str) -> dict[str, list[str]]:
    """The rows of both tables by their first cell."""
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def shown(
    seen: dict[str, Any],
    requests: Sequence[dict[str, Any]] = (),
    width: int = 160,
    height: int | None = None,
) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(screen(seen, requests, width, height))
    return capture.get()


def test_once_shows_models_and_requests(capsys: pytest.CaptureFixture[str]) -> None:
    failed = request("f", model=None, error="rate_limited", status=429, cost=None)
    with console(seen(request("a"), failed)) as (url, cursors):
        with pytest.raises(SystemExit) as end:
            main(["top", "--once", "--url", url])
        with pytest.raises(SystemExit):
            main(["top", "--once", "--json", "--url", url])
    assert end.value.code == 0
    assert cursors == [None, None]
    text, _, whole = capsys.readouterr().out.partition("{")
    assert "small" in text
    assert "large" in text
    assert "\x1b" not in text
    assert json.loads("{" + whole)["routers"] == 2


def test_a_model_has_its_figures_and_an_unknown_one_has_none() -> None:
    text = shown(seen())
    head = text.splitlines()[0]
    for part in (
        "LLM Cores 0.1.0",
        "quality wanted 0.96",
        "routers: 2",
        "0.5 requests/s",
        "$3.6/h",
    ):
        assert part in head
    table = rows(text)
    figures = ["closed", "1", "of", "2", "0.5", "12", "0.0", "3", "0", "20", "ms", "1.2", "s"]
    assert table["small"][1:] == [*figures, "-", "$3.6"]
    assert table["large"][1:5] == ["open", "1", "of", "2"]
    assert set(table["large"][5:]) == {"-", "3", "0"}


def test_a_request_says_why_or_what_went_wrong() -> None:
    failed = request("f", model=None, error="rate_limited", status=429)
    rescued = request("r", rescued=[{"from": "large", "error": "unreachable", "mode": "restart"}])
    text = shown(seen(), [request("a", query="hello\n\x1b[2Jthere"), failed, rescued])
    assert "large broke off (unreachable) · why r" in text
    assert "hello [2Jthere · why a" in text  # in one line, and a terminal obeys no query
    assert "429 rate_limited" in text


def test_a_key_that_sees_only_its_own_traffic_is_told_so() -> None:
    caller = {"name": "team", "all_traffic": False}
    assert "only traffic of team" in shown(seen(caller=caller))


def test_many_models_are_the_busiest_and_fit_the_terminal() -> None:
    models = [
        model(f"m{i:03}", now={"requests_per_s": i, "output_tokens_per_s": None})
        for i in range(1000)
    ]
    requests = [request(str(i)) for i in range(30)]
    text = shown(seen(models=models), requests)
    assert "m999" in text
    assert "m000" not in text
    assert "and 970 more models" in text
    for width, height in ((80, 10), (120, 24), (200, 50)):
        lines = shown(seen(models=models), requests, width, height).splitlines()
        assert len(lines) <= height
        assert max(map(len, lines)) <= width


def test_a_narrow_terminal_still_shows_names_and_main_figures() -> None:
    text = shown(
        seen(models=[model("small"), model("large", circuit="open"), model("a-longer-name-12")]),
        [request("a")],
        80,
    )
    for part in ("small", "large", "open", "req/s", "in flight", "first p50", "cost", "why a"):
        assert part in text
    assert not any("…" in line for line in text.splitlines()[1:])  # but the line on the server


def test_a_request_that_comes_again_after_a_failure_is_shown_once() -> None:
    first, second = seen(request("a"), request("b")), seen(request("c"), request("a"))
    requests: deque[dict[str, Any]] = deque(maxlen=3)
    for look in (first, second):
        latest(requests, look)
    assert [each["id"] for each in requests] == ["c", "a", "b"]


def test_a_server_without_a_console_is_told_from_one_that_is_not_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with listening(Starlette()) as url, pytest.raises(SystemExit) as end:
        main(["top", "--url", url])
    assert "`server.console: true`" in str(end.value.code)


def test_it_looks_again_from_where_it_was_until_ctrl_c() -> None:
    looks = seen(request("a")), seen(request("b"), cursor="2")
    command = [sys.executable, "-m", "ops.cli", "top", "--json", "--seconds", "0.2", "--url"]
    with (
        console(*looks) as (url, cursors),
        subprocess.Popen(
            [*command, url],
            cwd=in_repository("."),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as run,
    ):
        assert run.stdout
        first, second = (json.loads(run.stdout.readline()) for _ in range(2))
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert (first["cursor"], second["cursor"]) == ("1", "2")
    assert cursors[:2] == [None, "1"]
    assert (run.returncode, errors) == (0, "")


def test_a_terminal_is_given_back_as_it_was() -> None:
    command = f"{sys.executable} -m ops.cli top --seconds 0.2 --url"
    with (
        console(seen(request("a"))) as (url, cursors),
        subprocess.Popen(
            ["script", "-qec", f"exec {command} {url}", "/dev/null"],
            cwd=in_repository("."),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as run,
    ):
        assert run.stdin
        deadline = time.monotonic() + 120
        while len(cursors) < 3:
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.05)
        run.stdin.write(b"\x03")  # Ctrl-C
        run.stdin.flush()
        output, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    text = output.decode()
    assert "Traceback" not in text
    assert re.search(r"\x1b\[\?1049h.*small.*\x1b\[\?1049l", text, re.DOTALL)
