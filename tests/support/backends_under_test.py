"""For each row of the registry, a backend that the contract tests can run on this machine."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from engine_fixtures import NAME, Engines
from vllm_fixtures import CONTEXT, KEY, MODEL, VLLMServer

from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.simulated.config import SimulatedConfig
from deployments.config import ModelConfig
from deployments.contract import Backend
from deployments.registry import KINDS, load


def _litellm(request: pytest.FixtureRequest) -> Backend:
    server: VLLMServer = request.getfixturevalue("vllm_server")
    return _with_key(
        LiteLLMConfig(
            name=NAME,
            backend="hosted_vllm",
            model=server.model,
            hostname=f"{server.url}/v1",
            api_key="${VLLM_TEST_KEY}",
            context_window=CONTEXT,
            timeout=120,
        )
    )


def _endpoint(request: pytest.FixtureRequest) -> Backend:
    server: VLLMServer = request.getfixturevalue("vllm_server")
    return _with_key(
        EndpointConfig(
            name=NAME,
            backend="vllm",
            model=server.model,
            hostname=server.url,
            api_key="${VLLM_TEST_KEY}",
            context_window=CONTEXT,
            timeout=120,
        )
    )


def _with_key(config: ModelConfig) -> Backend:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_TEST_KEY", KEY)
        return load(config)


def _huggingface(request: pytest.FixtureRequest) -> Backend:
    return load(
        HuggingFaceConfig(
            name=NAME, backend="huggingface", model=str(MODEL), eval_device="cpu", timeout=120
        )
    )


def _simulated(request: pytest.FixtureRequest) -> Backend:
    return load(
        SimulatedConfig(
            name=NAME,
            backend="simulated",
            tokens_per_second=200,
            places=32,
            context_window=CONTEXT,
        )
    )


def _engine(request: pytest.FixtureRequest) -> Backend:
    engines: Engines = request.getfixturevalue("engines")
    return engines.backend()


# A registry row that is missing here fails the contract tests.
BACKENDS: Mapping[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "litellm": _litellm,
    "endpoint": _endpoint,
    "huggingface": _huggingface,
    "simulated": _simulated,
    "engine": _engine,
}

_REAL_PARTS = {
    "litellm": ["vllm_server"],
    "endpoint": ["vllm_server"],
    "huggingface": ["engine"],
    "simulated": [],
    "engine": ["ray_cluster", "engines"],
}


def every_kind() -> list[Any]:
    """The registry's rows as parameters of a fixture, each with the real part that it needs."""
    return [
        pytest.param(kind, marks=pytest.mark.uses(*_REAL_PARTS.get(kind, ["engine"])))
        for kind in KINDS
    ]
