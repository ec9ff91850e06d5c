"""Promise: `make run`'s program says when it is ready, its curl line works, Ctrl-C ends it all."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from serve_fixtures import DEMO_MODELS, Server, free_port, in_repository


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ops.run", *args],
        cwd=in_repository("."),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program, once it is ready, and the command that it printed."""
    program = start("--port", str(free_port()))
    output = ""
    try:
        assert program.stdout
        for line in program.stdout:
            output += line
            if line.startswith("Ctrl-C"):
                break
        assert "Ready: http://localhost:" in output, output
        assert "No key is asked for, and this machine alone can call." in output
        yield program, output[output.index("curl ") : output.index("Ctrl-C")]
    finally:
        # By the process group: the program's own children go with it.
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def test_it_answers_and_ends(running: tuple[subprocess.Popen[str], str]) -> None:
    program, curl = running
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

    children = psutil.Process(program.pid).children(recursive=True)
    assert children
    os.killpg(program.pid, signal.SIGINT)
    assert program.stdout
    rest = program.stdout.read()
    assert program.wait(timeout=60) == 0, rest
    assert "Traceback" not in rest
    deadline = time.monotonic() + 20
    while left := [child for child in children if child.is_running()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_a_model_that_cannot_start_is_told_and_ends_it(tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("llms: {models: [{name: m, backend: huggingface, model: ./none}]}")
    program = start("--port", str(free_port()), "--config", str(config))
    output, _ = program.communicate(timeout=240)
    assert program.returncode == 1
    assert "m: ValueError: model 'm'" in output


def test_models_that_this_machine_has_no_room_for_are_told_and_end_it(tmp_path: Path) -> None:
    all_cpus = {
        "backend": "huggingface",
        "model": str(DEMO_MODELS / "demo-small"),
        "cpus": os.cpu_count(),
    }
    models = [
        {"name": "engine", "backend": "vllm", "model": "nobody/none", "gpus": 64},
        {"name": "torch", "backend": "huggingface", "model": "./none", "gpus": 64},
        {"name": "one", **all_cpus},
        {"name": "other", **all_cpus},
    ]
    config = tmp_path / "large.yaml"
    config.write_text(json.dumps({"llms": {"models": models}}))
    program = start("--port", str(free_port()), "--config", str(config))
    output, _ = program.communicate(timeout=240)
    assert program.returncode == 1
    _, _, end = output.partition("the start failed")
    assert "engine: waits for room for a replica, which needs CPU 1" in end
    assert "torch: waits for room for a replica, which needs CPU 0.5" in end
    assert end.count("GPU 64, of which the cluster has 0 and 0 free") == 2
    # Of two models that each take the whole machine one has it; the router has its place all the
    # same.
    (without,) = {"one", "other"} & {line.partition(":")[0].strip() for line in end.splitlines()}
    needed = f"CPU {os.cpu_count()}, of which the cluster has {os.cpu_count()} and 0 free"
    assert f"{without}: waits for room for a replica, which needs {needed}" in end
    assert "Router: waits" not in end


def test_serve_run_serves_a_serve_config(tmp_path: Path) -> None:
    """Ray Serve's own command, as the README has it, on a free port."""
    port = free_port()
    config = in_repository("ops/demo.yaml").read_text().replace("8000", str(port))
    file = tmp_path / "serve.yaml"
    file.write_text(config)
    program = subprocess.Popen(
        [Path(sys.executable).with_name("serve"), "run", str(file)],
        cwd=in_repository("."),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A Ray of its own, not the one of the other tests.
        env={**os.environ, "RAY_ADDRESS": "local"},
    )
    try:
        server = Server(f"http://127.0.0.1:{port}")
        server.wait_until("ready", patience_s=240)
        answer = server.client().chat.completions.create(
            model="demo-large", messages=[{"role": "user", "content": "What is 7 plus 5?"}]
        )
        assert answer.choices[0].message.content == "12"
    finally:
        os.killpg(program.pid, signal.SIGINT)
        program.communicate(timeout=120)


def test_a_port_in_use_and_a_wrong_config_are_told_at_once() -> None:
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


def test_without_keys_it_does_not_listen_for_others() -> None:
    program = start("--port", str(free_port()), "--host", "0.0.0.0")
    output, _ = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "for everyone: without keys it listens on 127.0.0.1 alone" in output
    assert "Traceback" not in output


def test_nor_does_it_by_ray_serves_own_commands(tmp_path: Path) -> None:
    """A Serve config file says by itself where to listen."""
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
    output = ""
    try:
        assert program.stdout
        for line in program.stdout:
            output += line
            if "without keys it listens on 127.0.0.1 alone" in line:
                break
            assert "is ready at" not in line, output
        assert "would listen on 0.0.0.0" in output, output
    finally:
        os.killpg(program.pid, signal.SIGINT)
        program.communicate(timeout=120)
