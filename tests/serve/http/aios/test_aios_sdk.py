"""Promise: the AIOS SDK itself works with this server, over HTTP, its keys in its kernel's URL.

The newest one in the registry speaks the older form; `test_aios.py` has what the newer one sends.
"""

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from listening import listening
from local_actors import LocalActor
from ray import serve as rayserve
from scripted_models import END, Models, http_api, says

from deployments.contract import Chunk, ToolCallDelta
from deployments.errors import ProviderError
from serve.access.keys import hash_of, new_key
from serve.http.aios.selections import Selections

if sys.version_info >= (3, 12):
    pytest.skip("the SDK allows Python 3.10 and 3.11", allow_module_level=True)

# It has no types.
cerebrum = import_module("cerebrum.client")
communication = import_module("cerebrum.llm.communication")
process = import_module("cerebrum.runtime.process")
llm_layer = import_module("cerebrum.llm.layer")
storage_layer = import_module("cerebrum.storage.layer")
requests = import_module("requests")

TOOLS = [{"type": "function", "function": {"name": "demo_author/arxiv", "description": "Finds."}}]
CALL = ToolCallDelta(0, "c1", "demo_author/arxiv", '{"query": "AIOS"}')


@pytest.fixture(autouse=True)
def _actor(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = LocalActor(Selections())
    monkeypatch.setattr(rayserve, "get_deployment_actor", lambda name: actor)


def api(models: Models, **config: Any) -> Any:
    return http_api(asyncio.run(models.core()), models, **config)


def ask(client: Any, **query: Any) -> Any:
    """As an agent of the older form asks: by `AutoLLM.from_dynamic().process`."""
    query = {"messages": [{"role": "user", "content": "Find AIOS."}], **query}
    asked = communication.LLMQuery(**query)
    return process.LLMProcessor(client).process("example/agent", asked)


def test_an_agent_chats_wants_json_and_gets_its_tool_calls() -> None:
    models = Models(a=[says("Hello", END), says("{}", END), says(Chunk(tool_calls=(CALL,)), END)])
    with listening(api(models)) as url:
        client = cerebrum.Cerebrum(url)
        assert ask(client)["response"]["response_message"] == "Hello"
        assert ask(client, message_return_type="json")["response"]["response_message"] == "{}"
        called = ask(client, tools=TOOLS, action_type="tool_use")["response"]
    assert called["tool_calls"] == [
        {"name": "demo_author/arxiv", "parameters": {"query": "AIOS"}, "id": "c1"}
    ]
    assert called["finished"] is True
    assert "no tool manager" in called["response_message"]
    assert [asked.wants_json for _, asked in models.asked] == [False, True, False]
    assert models.asked[2][1].tools == TOOLS


def test_its_llm_layer_selects_a_model_until_it_cleans_up() -> None:
    models = Models(a=[says("A", END)], b=[says("B", END)])
    with listening(api(models)) as url, cerebrum.Cerebrum(url) as client:
        client.add_llm_layer(llm_layer.LLMLayer(llm_name="b"))
        for _ in range(3):
            ask(client)
        assert client.get_status()["llms"] == "active"
        assert client.cleanup()["status"] == "success"
        for _ in range(2):
            ask(client)
    assert models.order[:3] == "bbb"
    assert sorted(models.order[3:]) == ["a", "b"]


def test_a_failure_is_in_the_reply_and_a_layer_that_is_not_here_an_exception() -> None:
    models = Models({"retries": 0}, a=[says(ProviderError("it broke"))])
    with listening(api(models)) as url:
        client = cerebrum.Cerebrum(url)
        response = ask(client)["response"]
        with pytest.raises(requests.HTTPError) as error:
            client.add_storage_layer(storage_layer.StorageLayer())
    assert (response["status_code"], response["error"]) == (502, "it broke")
    assert "leave the storage layer out" in error.value.response.json()["detail"]


def test_a_key_goes_into_the_kernels_url_or_a_netrc_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = new_key()
    models = Models(a=[says("Hello", END)])
    keys = [{"name": "team", "sha256": hash_of(key).hex()}]
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    with listening(api(models, keys=keys, allow_anonymous=False)) as url:
        with pytest.raises(requests.HTTPError, match="401"):
            ask(cerebrum.Cerebrum(url))
        with_key = url.replace("http://", f"http://:{key}@")
        assert ask(cerebrum.Cerebrum(with_key))["response"]["response_message"] == "Hello"
        netrc.write_text(f"machine 127.0.0.1 login aios password {key}\n")
        assert ask(cerebrum.Cerebrum(url))["response"]["response_message"] == "Hello"
