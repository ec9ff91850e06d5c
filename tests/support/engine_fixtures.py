"""Real vLLM engines on the CPU in Ray Serve: the application with models of `backend: vllm`."""

import json
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from large_parts import LargeParts
from ray import serve as rayserve
from serve_fixtures import METRICS_PORT, Server, delete
from vllm_fixtures import CONTEXT, MODEL

from deployments.contract import ChatRequest, Chunk
from serve.app import build
from serve.dispatch.remote_errors import translate

NAME, APP = "engine", "engines"
ADAPTER = f"{NAME}:other"
# The same as those of the server in vllm_fixtures.
ENGINE = {
    "max_model_len": CONTEXT,
    "max_num_seqs": 32,
    "enforce_eager": True,
    "tool_call_parser": "hermes",
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
}
THOUGHT, SAID = "12 and 30", "42"
CALL = {"name": "weather", "arguments": {"city": "Rome"}}
RECITED = {
    "What is 12 + 30?": f"<think>{THOUGHT}</think>{SAID}",
    "Is it sunny?": f"<think>ask</think><tool_call>{json.dumps(CALL)}</tool_call>",
}


@dataclass(frozen=True)
class Engines(Server):
    """The application; its models are `NAME` with the adapter `ADAPTER`, and "reciting"."""

    def backend(self, model: str = NAME) -> "HandleBackend":
        """A model's deployment, called as the router calls it."""
        return HandleBackend(model)

    def running_requests(self, model: str) -> float:
        """The requests that a model's engine is working on; NaN while there is no metric."""
        return _metric("vllm_num_requests_running", model)

    def written_tokens(self, model: str) -> float:
        """The tokens that a model's engine has generated so far; NaN before the first."""
        return _metric("vllm_generation_tokens_total", model)


def _metric(name: str, model: str) -> float:
    """One of vLLM's metrics, as exported by Ray."""
    lines = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text.splitlines()
    label = f'model_name="{model}"'
    of_model = (line for line in lines if line.startswith(f"ray_{name}{{") and label in line)
    said = [float(line.split()[-1]) for line in of_model]
    return sum(said) if said else math.nan


class HandleBackend:
    """The contract's `Backend` over a deployment's handle."""

    def __init__(self, deployment: str) -> None:
        handle: Any = rayserve.get_deployment_handle(deployment, app_name=APP)
        self._handle, self._chat = handle, handle.options(stream=True, method_name="chat")

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        response = self._chat.remote(request)
        try:
            async for chunk in response:
                yield chunk
        except Exception as error:  # anything can cross the handle, as in the router
            raise translate(error, request.model) from error
        finally:
            response.cancel()

    async def context_window(self) -> int | None:
        windows: dict[str, int | None] = await self._handle.context_windows.remote([NAME])
        return windows[NAME]

    async def check_health(self) -> None:
        status = rayserve.status().applications[APP].status
        assert status == "RUNNING", status

    async def aclose(self) -> None:
        """Leaves the engine running: it belongs to the session."""


@pytest.fixture(scope="session")
def engines(
    ray_cluster: str, tmp_path_factory: pytest.TempPathFactory, large_parts: LargeParts
) -> Engines:
    """The engines behind one router."""
    from tiny_models import random_adapter, reciting_model  # imports torch

    adapters = {
        "other": str(random_adapter(MODEL, tmp_path_factory.mktemp("other"), spread=0.5)),
        "same": str(random_adapter(MODEL, tmp_path_factory.mktemp("same"), spread=0.0)),
    }
    reciting = reciting_model(
        tmp_path_factory.mktemp("reciting"), RECITED, marks=["<think>", "</think>"], tools=[TOOL]
    )
    models = [
        engine(NAME, MODEL, adapters=adapters),
        engine("reciting", reciting, reasoning_parser="deepseek_r1", dtype="float32"),
    ]
    app = build({"llms": {"models": models}})
    rayserve.run(app, name=APP, route_prefix="/engines")
    large_parts.started("engines", partial(delete, APP))
    running = Engines(f"{ray_cluster}/engines")
    running.wait_until("ready", 240)
    return running


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def engine(
    name: str, model: Path, *, adapters: dict[str, str] | None = None, **arguments: Any
) -> dict[str, Any]:
    """The config of a model in an engine on the CPU."""
    return {
        "name": name,
        "backend": "vllm",
        "model": str(model),
        "gpus": 0,
        "timeout": 120,
        "engine": {**ENGINE, **arguments},
        "adapters": adapters or {},
    }
