"""Promise: `make run`'s program says when it is ready, its curl line works, Ctrl-C ends it all."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import fake_providers
import httpx
import psutil
import pytest
from serve_fixtures import in_repository
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ops.local.startup import fetch_health
from ops.ports import free_port


def ignore_ctrl_c() -> None:
    """As a shell does for what a script starts with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ops.run", *args],
        cwd=in_repository("."),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=ignore_ctrl_c,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def wait_until_ready(program: subprocess.Popen[str]) -> str:
    """What it prints until it is ready."""
    assert program.stdout
    output = ""
    for line in program.stdout:
        output += line
        if line.startswith("Ctrl-C"):
            break
    assert "Ready: http://localhost:" in output, output
    assert "In a browser, http://localhost:" in output
    return output


def assert_all_end(processes: list[psutil.Process]) -> None:
    assert processes
    deadline = time.monotonic() + 20
    while left := [process for process in processes if process.is_running()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program, once it is ready, and what it printed."""
    program = start("--port", str(free_port()))
    try:
        output = wait_until_ready(program)
        assert "No API key is required; only this machine can connect." in output
        # A line for each step, and none of Ray's.
        steps = [line for line in output.partition("Ready")[0].splitlines() if line]
        assert [line.split()[0] for line in steps[:3]] == ["starting", "log:", "starting"]
        assert all(line.startswith("  ") for line in steps[3:]), output
        yield program, output
    finally:
        # By the process group: the program's own children go with it.
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def test_it_answers_and_ends(running: tuple[subprocess.Popen[str], str]) -> None:
    program, output = running
    curl = output[output.index("curl ") : output.index("Ctrl-C")]
    listening = {
        connection.laddr.ip
        for process in psutil.Process(program.pid).children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN" and str(connection.laddr.port) in curl
    }
    assert listening == {"127.0.0.1"}
    reply = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60)
    answer = json.loads(reply.stdout)
    assert answer["choices"][0]["message"]["content"] == "12"
    refused = curl.replace('"messages"', '"presence_penalty": 1, "messages"')
    subprocess.run(["bash", "-c", refused], capture_output=True, timeout=60, check=True)

    children = psutil.Process(program.pid).children(recursive=True)
    assert program.stdout
    lines = [program.stdout.readline() for _ in range(2)]
    assert lines[0].startswith("auto → demo-"), lines
    assert " (required .96)" in lines[0]
    assert lines[1].startswith("auto ✗ 400 unsupported_parameter presence_penalty  ")
    os.killpg(program.pid, signal.SIGINT)
    rest = program.stdout.read()
    assert program.wait(timeout=60) == 0, rest
    assert rest == "stopping: running requests have 10 s to finish; Ctrl-C again stops them now\n"
    assert_all_end(children)

    # A caller's mistake is no error in Ray's log.
    log = Path(output[output.index("log: ") :].split()[1]).read_text()
    assert "unsupported_parameter: presence_penalty" in log
    assert "Traceback" not in log


def words(request: Request, body: dict[str, Any]) -> Response:
    """A provider that streams a word every tenth of a second, as many as the prompt asks for."""

    def event(**more: object) -> str:
        return f"data: {json.dumps({'id': 'x', 'object': 'chat.completion.chunk', **more})}\n\n"

    async def events() -> AsyncIterator[str]:
        head = {"created": 1, "model": body["model"]}
        for _ in range(int(body["messages"][0]["content"])):
            choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            yield event(**head, choices=[choice])
            await asyncio.sleep(0.1)
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield event(**head, choices=[choice], usage=usage)
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


class Stream(threading.Thread):
    """A streamed answer of `count` words, read in a thread; `lines` holds what has come."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(daemon=True)
        self.url, self.count, self.lines = url, count, [""]
        self.begun = threading.Event()
        self.start()

    def run(self) -> None:
        messages = [{"role": "user", "content": str(self.count)}]
        body = {"model": "slow", "stream": True, "messages": messages}
        try:
            with httpx.stream("POST", self.url, json=body, timeout=60) as response:
                for line in response.iter_lines():
                    self.begun.set()
                    self.lines += [line] if line else []
        except httpx.TransportError:
            pass


def test_sigterm_lets_answers_finish_and_a_second_one_ends_them(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with fake_providers.serving(words) as provider:
        models = [
            {"name": "slow", "backend": "vllm", "hostname": provider.url},
            {"name": "broken", "backend": "huggingface", "model": "./none"},
        ]
        config = tmp_path / "slow.yaml"
        config.write_text(json.dumps({"llms": {"models": models}}))
        port = free_port()
        program = start("--port", str(port), "--config", str(config))
        try:
            output = wait_until_ready(program)
            # The model that failed is named, and the other one serves.
            assert "broken: ValueError: model 'broken'" in output.partition("Ready")[0]
            children = psutil.Process(program.pid).children(recursive=True)
            url = f"http://localhost:{port}/v1/chat/completions"
            short, long = Stream(url, 20), Stream(url, 500)
            assert short.begun.wait(30)
            assert long.begun.wait(30)

            program.terminate()
            short.join(30)
            assert short.lines[-1] == "data: [DONE]"
            assert long.is_alive()
            refused = httpx.post(url, json={"model": "slow", "messages": []}, timeout=30)
            assert refused.status_code == 404

            program.terminate()
            rest, _ = program.communicate(timeout=60)
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
        assert program.returncode == 0, rest
        assert "stopping now" in rest
        assert "slow  " in rest  # the short answer's line
        assert "Traceback" not in rest
        long.join(30)
        assert long.lines[-1] != "data: [DONE]"
        assert_all_end(children)


class Health(BaseHTTPRequestHandler):
    """Reports that it is ready."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ready"}')


def test_the_health_of_this_server_is_not_asked_for_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert fetch_health(url) == {"status": "ready"}
    assert fetch_health(url) == {}


def test_models_that_cannot_start_are_named_with_the_reason_and_end_it(tmp_path: Path) -> None:
    """One has no weights, and for two this machine has no room."""
    (tmp_path / "none").mkdir()
    models = [
        {"name": "m", "backend": "huggingface", "model": "./none"},
        {"name": "engine", "backend": "vllm", "model": "nobody/none", "gpus": 64},
        {"name": "torch", "backend": "huggingface", "model": "./none", "gpus": 64},
    ]
    config = tmp_path / "wrong.yaml"
    config.write_text(json.dumps({"llms": {"models": models}}))
    program = start("--port", str(free_port()), "--config", str(config))
    output, _ = program.communicate(timeout=240)
    assert program.returncode == 1
    _, _, end = output.partition("startup failed")
    assert "m: ValueError: model 'm'" in end
    assert "engine: waiting for room for a replica, which needs CPU 1" in end
    assert "torch: waiting for room for a replica, which needs CPU 0.5" in end
    assert end.count("GPU 64 (the cluster has ") == 2


def test_a_port_in_use_and_a_wrong_config_end_it_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        program = start("--port", str(taken.getsockname()[1]))
        output, _ = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "is in use" in output
    program = start("--config", "none.yaml")
    output, _ = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "no configuration file" in output
    assert "Traceback" not in output


def test_without_keys_it_listens_for_this_machine_alone() -> None:
    program = start("--port", str(free_port()), "--host", "0.0.0.0")
    output, _ = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "without requiring a key" in output
    assert "Traceback" not in output


def test_without_keys_ray_serves_own_commands_do_not_either(tmp_path: Path) -> None:
    """A Serve config file names the address to listen on."""
    application = {
        "name": "llms",
        "import_path": "serve.app:build",
        "args": {"llms": {"models": [{"name": "m", "backend": "openai"}]}},
    }
    http = {"host": "0.0.0.0", "port": free_port()}
    file = tmp_path / "serve.yaml"
    file.write_text(json.dumps({"http_options": http, "applications": [application]}))
    program = subprocess.Popen(
        [Path(sys.executable).with_name("serve"), "run", str(file)],
        cwd=in_repository("."),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "RAY_ADDRESS": "local", "OPENAI_API_KEY": "none"},
    )
    # It tries again without end: the wait ends with the message or is cut off.
    late = threading.Timer(120, os.killpg, (program.pid, signal.SIGKILL))
    late.start()
    output = ""
    try:
        assert program.stdout
        for line in program.stdout:
            output += line
            if "would listen on 0.0.0.0 without requiring a key" in line:
                break
            assert "is ready at" not in line, output
        else:
            pytest.fail(f"no such message within 120 s:\n{output}")
    finally:
        late.cancel()
        os.killpg(program.pid, signal.SIGINT)
        program.communicate(timeout=120)
