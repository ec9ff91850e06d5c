"""Promise: a real vLLM server answers through its OpenAI API."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from asking import answer_to, ask
from vllm_fixtures import CONTEXT, VLLMServer

from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ProviderRejected,
    Unreachable,
)

Connect = Callable[..., OpenAIBackend]


@pytest.fixture(params=["vllm", "sglang", "whole"])
def real(
    request: pytest.FixtureRequest,
    vllm_server: VLLMServer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> OpenAIBackend:
    """A backend of each kind for the real server, and one that asks for whole answers whole."""
    monkeypatch.setenv("TEST_KEY", vllm_server.key)
    hostname = vllm_server.url + ("/v1" if request.param == "sglang" else "")
    whole = request.param == "whole"
    kind = "vllm" if whole else request.param
    return connect(hostname, backend=kind, model=vllm_server.model, whole=whole)


LONG = {
    "type": "json_schema",
    "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 1000}},
}


async def test_the_window_is_the_servers(
    real: OpenAIBackend, vllm_server: VLLMServer, connect: Connect
) -> None:
    assert await real.context_window() == CONTEXT
    assert await connect(vllm_server.url, context_window=5).context_window() == 5
    other = connect(vllm_server.url, model="another one")
    assert await other.context_window() is None


async def test_the_window_of_a_server_that_is_down_is_an_error(connect: Connect) -> None:
    with pytest.raises(Unreachable):
        await connect("http://127.0.0.1:9").context_window()


async def test_both_kinds_answer(real: OpenAIBackend) -> None:
    answer = await answer_to(real, ask(max_tokens=8, temperature=0.0))
    assert answer.finish_reason
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


async def test_forced_calls_are_the_same_whole_and_streamed(real: OpenAIBackend) -> None:
    schema = {
        "type": "object",
        "properties": {"unit": {"enum": ["celsius"]}},
        "required": ["unit"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "weather/now", "parameters": schema}}
    choice = {"type": "function", "function": {"name": "weather/now"}}
    for stream in (False, True):
        request = ask(
            tools=[tool], tool_choice=choice, temperature=0.0, max_tokens=200, stream=stream
        )
        answer = await answer_to(real, request)
        assert [call.name for call in answer.tool_calls] == ["weather/now"]
        assert json.loads(answer.tool_calls[0].arguments) == {"unit": "celsius"}
        assert answer.finish_reason == "tool_calls"


async def test_vllms_own_sampling_is_honoured(real: OpenAIBackend) -> None:
    greedy = await answer_to(real, ask(max_tokens=8, temperature=0.0))
    for only_one_token in ({"top_k": 1}, {"min_p": 1.0}):
        answer = await answer_to(real, ask(max_tokens=8, temperature=2.0, **only_one_token))
        assert answer.text == greedy.text


async def test_logprobs_are_passed_on(real: OpenAIBackend) -> None:
    answer = await answer_to(real, ask(max_tokens=4, logprobs=True, top_logprobs=2))
    assert answer.logprobs
    assert all(len(entry["top_logprobs"]) == 2 for entry in answer.logprobs)


async def test_an_answer_closed_early_is_stopped_on_the_server(
    real: OpenAIBackend, vllm_server: VLLMServer
) -> None:
    request = ask(response_format=LONG, stream=True)
    await vllm_server.close_while_running(lambda: real.chat(request))
    await until_idle(vllm_server)


async def test_an_answer_cancelled_before_its_first_chunk_is_stopped_on_the_server(
    real: OpenAIBackend, vllm_server: VLLMServer
) -> None:
    task = asyncio.create_task(answer_to(real, ask(response_format=LONG)))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_idle(vllm_server)


async def until_idle(server: VLLMServer) -> None:
    deadline = time.monotonic() + 10
    while await asyncio.to_thread(server.running_requests):
        assert time.monotonic() < deadline, "the server is still generating"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("words", [1000, 20_000])
async def test_a_prompt_that_is_too_long_is_distinguished_from_other_bad_requests(
    real: OpenAIBackend, words: int
) -> None:
    with pytest.raises(ContextLengthExceeded):
        await answer_to(real, ask("word " * words))
    with pytest.raises(InvalidRequest) as error:
        await answer_to(real, ask(logit_bias={"99999999": 1.0}))
    assert error.type is InvalidRequest
    assert error.value.param == "logit_bias"


async def test_a_wrong_key_is_the_operators_fault(
    vllm_server: VLLMServer, connect: Connect
) -> None:
    with pytest.raises(ProviderRejected, match="'ours'"):
        await answer_to(connect(vllm_server.url, model=vllm_server.model), ask())
