"""The servers that are compared, each in its own processes."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ops.bench.engine.streams import JSON_HEADERS, MODEL, PATH, body
from ops.bench.processes import Tree, stop
from ops.ports import free_port

_START_S = 300
_ENGINE = {"max_model_len": 2048, "max_num_seqs": 32, "enforce_eager": True}
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    # Ray runs its workers, engines included, at a lower priority than other processes.
    "RAY_worker_niceness": "0",
}


def engine_command(model: Path, port: int, folder: Path) -> list[str]:
    """vLLM's own OpenAI server."""
    return [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", MODEL),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", str(_ENGINE["max_model_len"])),
        *("--max-num-seqs", str(_ENGINE["max_num_seqs"]), "--enforce-eager"),
    ]


def our_command(model: Path, port: int, folder: Path) -> list[str]:
    """This application, as `make run` serves it."""
    served = {"name": MODEL, "backend": "vllm", "model": str(model), "gpus": 0, "engine": _ENGINE}
    config = folder / "config.json"  # JSON is YAML
    config.write_text(json.dumps({"llms": {"models": [served]}}))
    return ["-m", "ops.run", "--config", str(config), "--port", str(port)]


def peer_command(model: Path, port: int, folder: Path) -> list[str]:
    """`ray.serve.llm.build_openai_app` with its defaults."""
    config = folder / "config.json"
    served = {
        "model_loading_config": {"model_id": MODEL, "model_source": str(model)},
        "placement_group_config": {"bundles": [{"CPU": 1}]},
        "engine_kwargs": _ENGINE,
    }
    config.write_text(json.dumps({"llm_configs": [served]}))
    return ["-m", "ops.bench.engine.peer", "--config", str(config), "--port", str(port)]


@dataclass(frozen=True)
class Contestant:
    """A server; `command` gives Python's arguments from the model, a port and a work folder."""

    command: Callable[[Path, int, Path], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


REFERENCE = "vllm server"
CONTESTANTS = {
    REFERENCE: Contestant(engine_command),
    "ours": Contestant(our_command),
    "ours, throughput mode": Contestant(our_command, {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
    "build_openai_app": Contestant(peer_command),
}


@dataclass(frozen=True)
class Server:
    """A contestant's processes; `process` is the parent of the others."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self) -> None:
        """Waits until it answers.

        Raises:
            SystemExit: it did not start.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = httpx.post(
                    f"{self.url}{PATH}",
                    content=body("hello"),
                    headers=JSON_HEADERS,
                    timeout=60,
                    trust_env=False,
                )
                if answer.status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(1)
        sys.exit(f"a contestant did not start; see {self.log}")

    @property
    def tree(self) -> Tree:
        """All its processes."""
        return Tree(self.process.pid)


@contextmanager
def started(name: str, model: Path, logs: Path) -> Iterator[Server]:
    """Starts a contestant and pauses it once it answers."""
    contestant = CONTESTANTS[name]
    port = free_port()
    log = logs / f"{model.name}, {name}.log"
    # A short path, since Ray creates sockets in it.
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with temporary as folder, log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *contestant.command(model, port, Path(folder))],
            env={
                **os.environ,
                **_ENVIRONMENT,
                **contestant.environment,
                "RAY_TMPDIR": folder,
                "VLLM_CACHE_ROOT": f"{folder}/vllm",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(f"http://127.0.0.1:{port}", process, log)
        try:
            server.wait()
            server.tree.pause()
            yield server
        finally:
            stop(process)
