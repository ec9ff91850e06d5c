"""Promise: hosted models in the router change with its settings, and stay if those are refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_providers import chunk, serving, streaming, usage

from deployments.config import HostedConfig
from deployments.contract import ChatRequest
from deployments.replicas import hosted
from serve.app import deployment_names
from serve.availability.replicas import Availability
from serve.config import load_config
from serve.handles import Deployed, InProcess
from serve.http import ingress
from serve.http.ingress import Router

REQUEST = ChatRequest(model="a", messages=[{"role": "user", "content": "Hi"}])


@pytest.fixture
async def router(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Router]:
    """A router with the model "a" in its process, and "own" behind a deployment."""
    said = chunk(delta={"content": "Hello"}), chunk(finish_reason="stop"), usage()

    async def watch(self: Availability) -> None:
        """There is no controller."""

    monkeypatch.setattr(Availability, "watch", watch)
    monkeypatch.setattr(hosted, "_LINGER_S", 0.0)
    monkeypatch.setattr(hosted, "_ARRIVAL_S", 0.1)
    monkeypatch.setattr(ingress, "listening_host", lambda: "127.0.0.1")
    with serving(streaming(*said)) as provider:
        models = [endpoint("a", provider.url), endpoint("own", provider.url, own_deployment=True)]
        config = load_config({"llms": {"models": models, "hosted": {"in_router": True}}})
        names = deployment_names(config.llms.models)
        handle: Any = Handle()
        router = _Router(config, names, {"own": handle}, {}, None)
        await router.reconfigure({"models": [models[0], "own"]})
        yield router
        router._server.fleet.stop()
        assert router._in_process is not None
        await router._in_process.close()


class _Router(Router):
    def __del__(self) -> None:  # type: ignore[override]  # Ray Serve would await it
        pass


class Handle:
    """A deployment's handle that is not called."""

    def options(self, **options: Any) -> "Handle":
        return self


def endpoint(name: str, url: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "backend": "vllm", "hostname": url, **fields}


def _url(router: Router) -> str:
    model = router._models["a"]
    assert isinstance(model, HostedConfig)
    return str(model.hostname)


async def ask(router: Router, model: str) -> str:
    stream = router._handles["Endpoints"].chat(REQUEST.model_copy(update={"model": model}))
    return (await anext(stream)).text


async def test_only_models_that_would_share_a_deployment_run_in_the_router(router: Router) -> None:
    assert isinstance(router._handles["Endpoints"], InProcess)
    assert isinstance(router._handles["LiteLLM"], InProcess), "also those that come later"
    assert isinstance(router._handles["own"], Deployed)
    assert await ask(router, "a") == "Hello"
    states = router._server.fleet.availability.states
    assert (states["a"].replicas, states["own"].replicas) == (1, 0), "before any poll"


async def test_they_change_with_the_settings(router: Router) -> None:
    url = _url(router)
    await router.reconfigure({"models": [endpoint("b", url), "own"]})
    assert await ask(router, "b") == "Hello"
    assert router._server.fleet.core.models.keys() == {"b", "own"}


async def test_refused_settings_take_no_model_away(router: Router) -> None:
    url = _url(router)
    refused = {"models": [endpoint("b", url), "own"], "router": {"strategy": "smart"}}
    with pytest.raises(ValueError, match="strategy"):
        await router.reconfigure(refused)
    assert router._server.fleet.core.models.keys() == {"a", "own"}
    assert await ask(router, "a") == "Hello"
