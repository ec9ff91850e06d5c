"""A real vLLM engine on the CPU, started once as an OpenAI-compatible server."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from large_parts import LargeParts

from deployments.contract import Chunk
from ops.ports import free_port

MODEL = Path(__file__).parents[2] / "ops" / "demo" / "models" / "demo-large"
CONTEXT = 2048
START_SECONDS = 240
# LiteLLM sends a key with this prefix to Anthropic's API as a bearer token, which vLLM expects on
# all its paths: so one server with a key serves every kind of client.
KEY = "sk-ant-oat01-for-tests-only"

_LIBC = ctypes.CDLL(None)  # before any fork: little is safe after it


@dataclass(frozen=True)
class VLLMServer:
    """`url` has no path; `model` is the served name; `log` holds what the server wrote."""

    url: str
    model: str
    key: str
    log: Path

    def running_requests(self, client: httpx.Client | None = None) -> float:
        """The requests that the engine is working on."""
        lines = (client or httpx).get(f"{self.url}/metrics").text.splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{"))
        )

    def is_seen_running(self) -> bool:
        """Waits until the engine works on a request; False if none was seen. The gauge follows the
        engine's steps, and the first step waits until the schema is compiled, which takes seconds
        on a busy machine."""
        deadline = time.monotonic() + 20
        with httpx.Client() as client:  # a new one for each look would take longer than an answer
            while not self.running_requests(client):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.002)
        return True

    async def close_while_running(
        self, ask: Callable[[], AsyncGenerator[Chunk, None]], answers: int = 4
    ) -> None:
        """Closes an answer while the engine is seen at work on it. The engine may be done with one
        before it is seen, so several are asked for."""
        for _ in range(answers):
            # Begins before the request, since a fast machine soon completes the answer.
            running = asyncio.create_task(asyncio.to_thread(self.is_seen_running))
            async with aclosing(ask()) as chunks:
                await anext(chunks)
                if await running:
                    return
        pytest.fail(f"the engine was not seen at work on any of {answers} answers")


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory, large_parts: LargeParts) -> VLLMServer:
    """The server, started by the first test that uses it."""
    folder = tmp_path_factory.mktemp("vllm")
    port = free_port()
    server = VLLMServer(f"http://127.0.0.1:{port}", "demo-large", KEY, folder / "server.log")
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            _command(server, port),
            cwd=folder,
            env=os.environ | environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_the_tests,
        )
    large_parts.started("vllm_server", partial(_end, process))
    _wait_until_ready(server, process)
    return server


def _command(server: VLLMServer, port: int) -> list[str]:
    # Without the last two options a model may emit white space in JSON until its tokens run out;
    # the environment below applies them to forced tool calls as well.
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(MODEL), "--served-model-name", server.model),
        *("--host", "127.0.0.1", "--port", str(port), "--api-key", server.key),
        *("--max-model-len", str(CONTEXT), "--max-num-seqs", "32", "--enforce-eager"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--structured-outputs-config.backend", "xgrammar"),
        *("--structured-outputs-config.disable_any_whitespace", "true"),
    ]


def environment(folder: Path) -> dict[str, str]:
    """The environment variables that an engine on the CPU needs."""
    return {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CACHE_ROOT": str(folder / "cache"),
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENFORCE_STRICT_TOOL_CALLING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _die_with_the_tests() -> None:
    """Has the kernel end the server if the tests are killed (`prctl(2)`)."""
    set_parent_death_signal = 1
    _LIBC.prctl(set_parent_death_signal, signal.SIGTERM)


def _wait_until_ready(server: VLLMServer, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{server.url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    log = server.log.read_text("utf-8", "replace")
    pytest.fail(f"the vLLM server did not start; the end of its log:\n{log[-4000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the process group: the server and its engine's processes."""
    for sign, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sign)
            process.wait(seconds)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
