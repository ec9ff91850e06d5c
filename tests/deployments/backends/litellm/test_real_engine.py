"""Promise: a real engine answers through each of LiteLLM's three ways to it."""

import asyncio
import json
import time
from typing import Any

import jsonschema
import pytest
from asking import answer_to, ask
from fake_providers import SECRET
from litellm_support import NAMED, Connect, after_a_tool, long_tool
from provider_formats import JSON, PLACE, WEATHER
from vllm_fixtures import VLLMServer

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ProviderRejected,
    UnsupportedParameter,
)


@pytest.fixture(params=["hosted_vllm", "openai", "anthropic"])
def real(
    request: pytest.FixtureRequest,
    vllm_server: VLLMServer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> LiteLLMBackend:
    """A backend for the real server; LiteLLM puts `/v1/messages` behind Anthropic's host itself."""
    monkeypatch.setenv("TEST_KEY", vllm_server.key)
    url = vllm_server.url + ("" if request.param == "anthropic" else "/v1")
    return connect(request.param, url, model=vllm_server.model)


async def test_whole_and_streamed_answers_agree(real: LiteLLMBackend) -> None:
    request = ask(max_tokens=12, temperature=0.0)
    whole = await answer_to(real, request)
    streamed = await answer_to(real, request.model_copy(update={"stream": True}))
    assert whole == streamed
    assert whole.finish_reason
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 0
    assert whole.usage.completion_tokens > 0


async def test_limit_and_stop_are_honoured(real: LiteLLMBackend) -> None:
    greedy = await answer_to(real, ask(max_tokens=12, temperature=0.0))
    cut = await answer_to(real, ask(max_completion_tokens=1, temperature=0.0))
    assert (cut.text, cut.finish_reason) == (greedy.text[:1], "length")
    stop = greedy.text[1]
    stopped = await answer_to(real, ask(max_tokens=12, temperature=0.0, stop=[stop]))
    assert (stopped.text, stopped.finish_reason) == (greedy.text.split(stop)[0], "stop")


async def test_a_seed_is_honoured_or_refused(real: LiteLLMBackend) -> None:
    request = ask(max_tokens=12, temperature=2.0, seed=7)
    if real._config.backend == "anthropic":  # Anthropic's API has no seed
        with pytest.raises(UnsupportedParameter, match="seed"):
            await answer_to(real, request)
    else:
        assert (await answer_to(real, request)).text == (await answer_to(real, request)).text


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_forced_calls_have_their_name(real: LiteLLMBackend, choice: Any) -> None:
    request = ask(tools=[WEATHER], tool_choice=choice, max_tokens=400, temperature=0.0)
    answer = await answer_to(real, request)
    # A model that must call may keep calling until its tokens are used up.
    assert answer.finish_reason == "tool_calls" or len(answer.tool_calls) > 1
    assert {call.name for call in answer.tool_calls} == {"weather/now"}
    jsonschema.validate(json.loads(answer.tool_calls[0].arguments), PLACE)


async def test_a_tool_result_is_answered(real: LiteLLMBackend) -> None:
    answer = await answer_to(real, after_a_tool(max_tokens=12))
    assert answer.finish_reason in ("stop", "length")


async def test_json_keeps_to_its_schema(real: LiteLLMBackend) -> None:
    answer = await answer_to(real, ask(response_format=JSON, max_tokens=400, temperature=0.0))
    jsonschema.validate(json.loads(answer.text), PLACE)
    assert answer.finish_reason == "stop"


async def test_an_answer_closed_early_is_stopped_on_the_server(
    real: LiteLLMBackend, vllm_server: VLLMServer
) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"x": {"type": "string", "minLength": 1500}},
        "required": ["x"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    request = ask(response_format=form, max_tokens=1800, stream=True)
    if real._config.backend == "anthropic":  # LiteLLM takes `minLength` out for Anthropic
        tools = [long_tool(schema)]
        request = ask(tools=tools, tool_choice="required", max_tokens=1800, stream=True)
    await vllm_server.close_while_running(lambda: real.chat(request))
    deadline = time.monotonic() + 10
    while await asyncio.to_thread(vllm_server.running_requests):
        assert time.monotonic() < deadline, "the server is still generating"
        await asyncio.sleep(0.05)


async def test_a_prompt_that_is_too_long_is_distinguished_from_other_bad_requests(
    real: LiteLLMBackend,
) -> None:
    with pytest.raises(ContextLengthExceeded):
        await answer_to(real, ask("word " * 1000, max_tokens=5))
    with pytest.raises(InvalidRequest) as error:
        await answer_to(real, ask(max_tokens=100_000))
    assert error.type is InvalidRequest


async def test_a_wrong_key_is_the_operators_fault(
    real: LiteLLMBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", SECRET)
    with pytest.raises(ProviderRejected, match="'ours'"):
        await answer_to(LiteLLMBackend(real._config), ask(max_tokens=5))
