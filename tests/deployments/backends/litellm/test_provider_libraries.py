"""Promise: a model whose provider needs a library that is not installed is refused at its start."""

from collections.abc import Mapping
from typing import Any

import pytest
from fake_providers import refusing, serving

from deployments.backends.litellm import config as litellm_config
from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, ProviderRejected
from deployments.registry import load

URL = "http://127.0.0.1:9"
KEY = "${TEST_KEY}"
PRINCIPAL = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}
PASSWORD = {"AZURE_CLIENT_ID": "c", "AZURE_USERNAME": "u", "AZURE_PASSWORD": "p"}
AWS = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_REGION_NAME": "eu-west-1",
}
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"

# The tests' environment has none of these libraries.
MISSING = [
    ({"backend": "azure", "hostname": URL}, PRINCIPAL, "azure.identity", "[azure]"),
    ({"backend": "azure", "hostname": URL, "api_key": KEY}, PASSWORD, "azure.identity", "[azure]"),
    ({"backend": "databricks", "hostname": URL}, {}, "databricks.sdk", "[databricks]"),
    ({"backend": "databricks", "api_key": KEY}, {}, "databricks.sdk", "[databricks]"),
    ({"backend": "vertex_ai", "model": "chat-bison"}, {}, "vertexai", "[vertex-ai]"),
    ({"backend": "vertex_ai", "model": "gemma/one"}, {}, "vertexai", "[vertex-ai]"),
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test")
    for name in (*PRINCIPAL, *PASSWORD, "AZURE_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def config(
    fields: Mapping[str, Any], variables: Mapping[str, str], patch: pytest.MonkeyPatch
) -> LiteLLMConfig:
    for name, value in variables.items():
        patch.setenv(name, value)
    return LiteLLMConfig.model_validate({"name": "ours", "model": "m", "timeout": 5, **fields})


async def ask(backend: LiteLLMBackend) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    async for _ in backend.chat(
        ChatRequest.model_validate({"model": "ours", "messages": messages})
    ):
        pass


@pytest.mark.parametrize(("fields", "variables", "module", "extra"), MISSING)
async def test_a_missing_library_is_named_at_the_start(
    fields: Mapping[str, Any],
    variables: Mapping[str, str],
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = config(fields, variables, monkeypatch)
    with pytest.raises(ValueError, match="'ours'") as error:
        load(given)
    assert f"'{module}'" in str(error.value)
    assert f"pip install 'llm-cores-on-ray-serve{extra}'" in str(error.value)
    # Without the check, LiteLLM fails for lack of it, which is never the caller's fault.
    monkeypatch.setattr(litellm_config, "missing_library", lambda *model, **more: None)
    with pytest.raises(ProviderRejected, match="No module named"):
        await ask(LiteLLMBackend(given))


@pytest.mark.parametrize(
    ("fields", "variables"),
    [
        ({"backend": "azure", "api_key": KEY}, PRINCIPAL),
        ({"backend": "azure"}, {"AZURE_API_KEY": "k"}),
        ({"backend": "databricks", "api_key": KEY}, {}),
        ({"backend": "bedrock", "model": CLAUDE}, AWS),
    ],
    ids=["azure", "azure by its variable", "databricks", "bedrock"],
)
async def test_the_provider_is_asked_without_a_library_that_it_does_not_need(
    fields: Mapping[str, Any], variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(refusing(message="no")) as fake:
        given = config({"hostname": fake.url, **fields}, variables, monkeypatch)
        with pytest.raises(InvalidRequest):
            await ask(LiteLLMBackend(given))
        assert fake.requests


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "claude-sonnet-4-5"])
def test_vertex_models_over_http_need_no_sdk(model: str) -> None:
    LiteLLMBackend(LiteLLMConfig(name="ours", backend="vertex_ai", model=model))
