"""Promise: if a provider can't be reached, the operator learns the URL and the cause."""

import asyncio
import logging
import pickle
from collections.abc import Iterator

import pytest
from fake_providers import Fake, serving
from starlette.responses import JSONResponse

from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.config import ModelConfig
from deployments.contract import ChatRequest
from deployments.errors import Unreachable
from deployments.registry import load
from deployments.replicas import reachability
from deployments.replicas.reachability import Provider, Tries
from ops.ports import free_port
from serve.http.failures import error_json

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "Are you there?"}])


@pytest.fixture
def provider() -> Iterator[Fake]:
    with serving(lambda request, body: JSONResponse({})) as fake:
        yield fake


def endpoint(hostname: str) -> EndpointConfig:
    return EndpointConfig(name="m", backend="vllm", hostname=hostname)


async def test_any_response_counts_as_reached(provider: Fake) -> None:
    assert await Provider(endpoint(provider.url)).unreachable() == ""
    assert not any(provider.requests), "what costs was asked"


async def test_a_model_without_a_hostname_counts_as_reachable() -> None:
    assert await Provider(LiteLLMConfig(name="m", backend="openai")).unreachable() == ""
    assert await Provider(ModelConfig(name="m", backend="x")).unreachable() == ""


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1:{free}/v1", "Connection refused"),
        ("http://localhost:{free}", "Connection refused"),
        ("http://nowhere.invalid:80", "Name or service not known"),
        ("https://127.0.0.1:{taken}", "WRONG_VERSION_NUMBER"),
    ],
)
async def test_a_failed_connection_names_the_url_and_the_cause(
    provider: Fake, url: str, cause: str
) -> None:
    taken = provider.url.rpartition(":")[2]
    url = url.format(free=free_port(), taken=taken)
    why = await Provider(endpoint(url)).unreachable()
    assert why.startswith(f"{url}: ")
    assert cause in why


async def test_models_at_one_address_try_it_once_in_a_while(
    provider: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    async def count(url: str) -> str:
        tries.append(url)
        return ""

    monkeypatch.setattr(reachability, "_try", count)
    shared = Tries()
    models = [Provider(endpoint(provider.url), shared) for _ in range(9)]
    await asyncio.gather(*(model.unreachable() for model in models * 2))
    assert len(tries) == 1


@pytest.mark.parametrize("backend", ["vllm", "openai", "anthropic", "ollama"])
async def test_only_the_operator_learns_the_url_of_a_failed_request(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MODEL_KEY", "sk-of-nobody")
    url = f"http://127.0.0.1:{free_port()}"
    kind = EndpointConfig if backend == "vllm" else LiteLLMConfig
    config = kind(name="m", backend=backend, hostname=url, api_key="${MODEL_KEY}")
    model, asked = load(config), Provider(config)
    with pytest.raises(Unreachable) as raised:
        _ = [chunk async for chunk in model.chat(REQUEST)]
    with caplog.at_level(logging.WARNING, "ray.serve"):
        for _ in range(9):
            asked.explain(raised.value)
    why = f"{url}: Connection refused"
    # As it arrives in the router.
    assert pickle.loads(pickle.dumps(raised.value)).detail == why
    told = [record.getMessage() for record in caplog.records if record.name == "ray.serve"]
    assert told == [f"the provider of model 'm' can't be reached: {why}"]
    assert "127.0.0.1" not in str(error_json(raised.value))
    await model.aclose()


async def test_without_a_hostname_the_host_that_the_library_called_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_KEY", "sk-of-nobody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://nowhere.invalid/v1")
    config = LiteLLMConfig(name="m", backend="openai", api_key="${MODEL_KEY}")
    model = load(config)
    with pytest.raises(Unreachable) as raised:
        _ = [chunk async for chunk in model.chat(REQUEST)]
    Provider(config).explain(raised.value)
    assert raised.value.detail == "nowhere.invalid: Name or service not known"
    await model.aclose()
