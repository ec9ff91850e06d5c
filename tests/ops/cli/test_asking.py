"""Promise: `llm-cores ask` and `route` print what a server answers, and one line where it fails."""

import asyncio
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from listening import listening
from scripted_models import END, Models, http_api, says
from serve_fixtures import in_repository
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from deployments.errors import ModelUnavailable
from ops.cli.app import main
from ops.ports import free_port
from serve.routing.prices import Price

KEY = "sk-cores-for-tests-only-0123456789"


@contextmanager
def served(models: Models, **config: Any) -> Iterator[str]:
    """The whole HTTP API over scripted models, at a URL."""
    prices = {name: Price(input=0.01, output=0.1) for name in models.scripts}
    core = asyncio.run(models.core(prices=prices))
    with listening(http_api(core, models, **config)) as url:
        yield url


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM_CORES_URL", "LLM_CORES_API_KEY"):
        monkeypatch.delenv(name, raising=False)


class Ended:
    """How a command ended, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        code = end.value.code
        self.out, self.err = capsys.readouterr()
        self.code = 1 if isinstance(code, str) else code or 0  # as Python ends
        if isinstance(code, str):
            self.err += f"{code}\n"


def test_an_answer_is_printed_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    models = Models(small=[says("Twelve", ", I think", END)])
    with served(models) as url:
        answered = Ended(capsys, "ask", "7 plus 5?", "--system", "Count.", "--url", url)
    assert (answered.code, answered.out, answered.err) == (0, "Twelve, I think\n", "")
    (_, request) = models.asked[0]
    assert request.stream
    assert [message["content"] for message in request.messages] == ["Count.", "7 plus 5?"]


@pytest.mark.parametrize("ends_a_line", ["\u2028", "\u2029", "\x85"])
def test_an_answer_may_hold_any_character_that_ends_a_line_elsewhere(
    capsys: pytest.CaptureFixture[str], ends_a_line: str
) -> None:
    said = f"One{ends_a_line}two"
    with served(Models(small=[says(said, END)])) as url:
        ended = Ended(capsys, "ask", "x", "--url", url)
    assert (ended.code, ended.out) == (0, f"{said}\n"), ended.err


def test_why_says_model_reason_and_cost_beside_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = Models(a=[says(ModelUnavailable("no"))], b=[says("12", END)])
    with served(models) as url:
        answered = Ended(capsys, "ask", "7 plus 5?", "--why", "--url", url)
        whole = Ended(capsys, "ask", "7 plus 5?", "--why", "--json", "--url", url)
    assert answered.out == "12\n"
    told = dict(line.split(":", 1) for line in answered.err.splitlines())
    assert re.fullmatch(r"b \(sequential\), attempts: \d", told["model"].strip())
    assert told["cost"].strip() == "$0.35, 5 tokens in, 3 out"
    assert set(told) == {"model", "reason", "cost"}
    reply = json.loads(whole.out)
    assert reply["choices"][0]["message"]["content"] == "12"
    assert reply["usage"]["completion_tokens"] == 3
    assert "b (sequential)" in whole.err
    assert "$0.35" in whole.err


def test_models_and_the_requirement_reach_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    models = Models(a=[says("A", END)], b=[says("B", END)], c=[says("C", END)])
    with served(models) as url:
        assert Ended(capsys, "ask", "x", "--model", "c", "--url", url).out == "C\n"
        assert Ended(capsys, "ask", "x", "--models", "b", "--url", url).out == "B\n"
        given = "ask", "x", "--requirement", "0.5", "--url", url
        refused = Ended(capsys, *given)
    assert refused.code == 1  # sequential routing knows no quality
    assert "performance_requirement" in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize("given", [[], ["-"]])
def test_the_question_may_be_piped_in(
    given: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(small=[says("ok", END)])
    monkeypatch.setattr("sys.stdin", io.StringIO("from a\npipe"))
    with served(models) as url:
        assert Ended(capsys, "ask", *given, "--url", url).out == "ok\n"
    assert models.asked[0][1].messages[-1]["content"] == "from a\npipe"


@pytest.mark.parametrize("command", ["ask", "route"])
def test_bytes_that_are_no_text_are_refused_in_one_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    not_utf_8 = b"caf\xe9".decode(errors="surrogateescape")  # as Python reads a command line
    with served(Models(small=[says("ok", END)])) as url:
        ended = Ended(capsys, command, not_utf_8, "--url", url)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "the character '\\udce9' can't be written in utf-8\n"


def test_a_terminal_without_a_question_is_not_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    ended = Ended(capsys, "ask")
    assert (ended.code, ended.out) == (2, "")
    assert "give a question" in ended.err
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert Ended(capsys, "ask").code == 2
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"))
    assert Ended(capsys, "ask").code == 2


def test_a_terminal_obeys_no_answer_that_is_printed_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = "né\x1b[2J\x9b2J\x7f\n"
    with served(Models(small=[says(said, END)])) as url:
        whole = Ended(capsys, "ask", "x", "--json", "--url", url)
    assert json.loads(whole.out)["choices"][0]["message"]["content"] == said
    assert "né" in whole.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", whole.out)


def test_an_error_is_one_line_and_a_broken_answer_is_not_taken_for_a_whole_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = Models(small=[says("Half an", ModelUnavailable("gone\nfor good"))])
    with served(models) as url:
        unknown = Ended(capsys, "ask", "x", "--model", "none", "--url", url)
        broken = Ended(capsys, "ask", "x", "--model", "small", "--url", url)
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("404: ")
    assert "none" in unknown.err
    assert broken.code == 1
    assert broken.out.startswith("Half an")
    assert broken.out.endswith("\n")
    assert broken.err.count("\n") == 1


def test_a_key_is_read_from_the_environment_and_never_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_KEY", KEY)
    models = Models(small=[says("ok", END)])
    keys = [{"name": "team", "key": "${TEAM_KEY}"}]
    with served(models, allow_anonymous=False, keys=keys) as url:
        without = Ended(capsys, "ask", "x", "--url", url)
        monkeypatch.setenv("LLM_CORES_API_KEY", f"{KEY}\n")
        monkeypatch.setenv("LLM_CORES_URL", f"{url}/v1/")
        assert Ended(capsys, "ask", "x").out == "ok\n"
    assert without.code == 1
    assert "LLM_CORES_API_KEY" in without.err
    monkeypatch.setenv("LLM_CORES_API_KEY", f"{KEY}\nx: y")
    broken = Ended(capsys, "ask", "x")
    assert (broken.code, KEY in broken.err) == (1, False)
    secret = Ended(capsys, "ask", "x", "--url", f"http://:{KEY}@localhost:8000")
    assert (secret.code, KEY in secret.err) == (1, False)


def test_where_no_server_is_it_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for command in (["ask", "x"], ["route", "x"], ["top", "--once"]):
        ended = Ended(capsys, *command, "--url", url)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"no server answers at {url}: start one with `llm-cores serve`")


def test_another_server_is_not_taken_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    async def hello(request: Request) -> JSONResponse:
        return JSONResponse("hello")

    paths = "/v1/route", "/v1/chat/completions"
    app = Starlette(routes=[Route(path, hello, methods=["POST"]) for path in paths])
    with listening(app) as url:
        ended = Ended(capsys, "route", "x", "--url", url)
        broken = Ended(capsys, "ask", "x", "--url", url)
    assert (ended.code, "is no LLM Cores server" in ended.err) == (1, True)
    assert (broken.code, broken.err) == (1, "the answer broke off\n")


CANDIDATES = [
    {"model": "a", "quality": 0.5, "uncertainty": 0.1, "output_tokens": 7, "cost": 1e-6},
    {"model": "b", "quality": 0.875, "uncertainty": 0.01, "output_tokens": 9, "cost": 2e-6},
]


@contextmanager
def routing(*data: Any) -> Iterator[tuple[str, list[Any]]]:
    """A server that routes so; its URL, and what it was asked."""
    asked: list[Any] = []

    async def route(request: Request) -> JSONResponse:
        asked.append(await request.json())
        return JSONResponse({"object": "list", "data": data})

    with listening(Starlette(routes=[Route("/v1/route", route, methods=["POST"])])) as url:
        yield url, asked


def test_one_query_is_routed_as_a_chat_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"index": 0, "model": "b", "reason": "it is good", "candidates": CANDIDATES}
    with routing(found) as (url, asked):
        shown = Ended(capsys, "route", "hm?", "--requirement", "0.8", "--url", url)
    wishes = {"router": {"performance_requirement": 0.8}}
    assert asked == [{"queries": ["hm?"], "as": "chat", **wishes}]
    first, _, *rows = shown.out.splitlines()
    assert first == "b: it is good"
    assert [row.split() for row in rows] == [
        ["→", "b", "0.875", "0.010", "9", "$2e-06"],
        ["a", "0.500", "0.100", "7", "$1e-06"],
    ]


def test_several_queries_are_routed_together(capsys: pytest.CaptureFixture[str]) -> None:
    only = [{"model": "a"}]
    found = [{"index": row, "model": "a", "reason": "", "candidates": only} for row in range(2)]
    given = "route", "one", "two\x1b[2J", "--models", "a"
    with routing(*found) as (url, asked):
        shown = Ended(capsys, *given, "--url", url)
        whole = Ended(capsys, *given, "--json", "--url", url)
    assert asked == [{"queries": ["one", "two\x1b[2J"], "models": ["a"]}] * 2
    assert shown.out.splitlines()[::2] == ["one", "two[2J"]  # a terminal obeys no query
    assert shown.out.count("a: no reason given") == 2
    assert json.loads(whole.out)["data"] == found


def test_a_server_that_can_not_route_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    models = Models(small=[says(END)])
    with served(models) as url:
        ended = Ended(capsys, "route", "one", "two", "--url", url)
    assert (ended.code, ended.out) == (1, "")
    assert "smart" in ended.err
    assert models.asked == []


# --- as processes ---


def program(*arguments: str, **pipes: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli", *arguments],
        cwd=in_repository("."),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **pipes,
    )


def test_ctrl_c_ends_a_stream_with_130_and_stops_the_model() -> None:
    models = Models(small=[says("Once ", *["more "] * 10_000, pause=0.05)])
    with served(models) as url, program("ask", "x", "--url", url) as run:
        assert run.stdout
        assert run.stdout.read(5) == "Once "
        run.send_signal(signal.SIGINT)
        rest, errors = run.communicate(timeout=60)
        assert run.returncode == 130
        assert (rest.endswith("\n"), errors) == (True, "")


def test_a_reader_that_leaves_is_no_failure_with_a_traceback() -> None:
    models = Models(small=[says(*["more\n"] * 100, pause=0.02)])
    with served(models) as url, program("ask", "x", "--url", url) as run:
        assert run.stdout
        assert run.stdout.readline() == "more\n"
        run.stdout.close()
        assert run.stderr
        assert run.stderr.read() == ""
        assert run.wait(60) == 1
