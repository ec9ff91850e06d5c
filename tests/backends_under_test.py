"""For each row of the registry, a config that the contract tests can run on this machine."""

from collections.abc import Callable, Mapping

import pytest
from vllm_fixtures import CONTEXT, MODEL, VLLMServer

from deployments.config import EndpointConfig, HuggingFaceConfig, LiteLLMConfig, ModelConfig

NAME = "under-test"


def _litellm(request: pytest.FixtureRequest) -> ModelConfig:
    server: VLLMServer = request.getfixturevalue("vllm_server")
    return LiteLLMConfig(
        name=NAME,
        backend="hosted_vllm",
        model=server.model,
        hostname=f"{server.url}/v1",
        api_key="${VLLM_TEST_KEY}",
        context_window=CONTEXT,
        timeout=120,
    )


def _endpoint(request: pytest.FixtureRequest) -> ModelConfig:
    server: VLLMServer = request.getfixturevalue("vllm_server")
    return EndpointConfig(
        name=NAME,
        backend="vllm",
        model=server.model,
        hostname=server.url,
        api_key="${VLLM_TEST_KEY}",
        context_window=CONTEXT,
        timeout=120,
    )


def _huggingface(request: pytest.FixtureRequest) -> ModelConfig:
    return HuggingFaceConfig(
        name=NAME, backend="huggingface", model=str(MODEL), eval_device="cpu", timeout=120
    )


# A row of the registry that is not here fails the contract tests.
CONFIGS: Mapping[str, Callable[[pytest.FixtureRequest], ModelConfig]] = {
    "litellm": _litellm,
    "endpoint": _endpoint,
    "huggingface": _huggingface,
}
