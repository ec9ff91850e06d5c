"""LiteLLM's providers: a real vLLM engine by three of them, fakes of what no engine here speaks."""

import asyncio
import inspect
import json
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import httpx
import jsonschema
import pytest
from fake_providers import (
    DONE,
    FAULTS,
    JSON,
    PLACE,
    SECRET,
    SOME,
    STOP,
    TEXT,
    WEATHER,
    chunk,
    failing,
    gemini,
    ollama,
    serving,
    streaming,
    thinking,
    usage,
)
from litellm import exceptions
from vllm_fixtures import VLLMServer

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.litellm.errors import ERRORS
from deployments.contract import ChatRequest, Chunk, Usage, merge
from deployments.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
    UnsupportedParameter,
    Untranslatable,
)

Connect = Callable[..., LiteLLMBackend]

TIME = {"type": "function", "function": {"name": "weather__now", "parameters": PLACE}}
NAMED = {"type": "function", "function": {"name": "weather/now"}}


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Makes backends for a provider at a URL; they are closed when the test ends."""
    monkeypatch.setenv("TEST_KEY", SECRET)
    made: list[LiteLLMBackend] = []

    def connect(backend: str, url: str | None, **fields: Any) -> LiteLLMBackend:
        given = {"name": "ours", "backend": backend, "api_key": "${TEST_KEY}", "hostname": url}
        given["timeout"] = 120  # seconds; the machine of the tests may be slow
        made.append(LiteLLMBackend(LiteLLMConfig.model_validate(given | fields)))
        return made[-1]

    yield connect
    for backend in made:
        await backend.aclose()


def ask(content: str = "What is 12 + 30?", **fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": content}]
    return ChatRequest.model_validate({"model": "ours", "messages": messages, **fields})


async def answer_to(backend: LiteLLMBackend, request: ChatRequest) -> Chunk:
    async with aclosing(backend.chat(request)) as chunks:
        return merge([chunk async for chunk in chunks])


def after_a_tool(**fields: Any) -> ChatRequest:
    """A request whose history has a call and its result."""
    function = {"name": "weather/now", "arguments": '{"city": "Rome", "days": 1}'}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is the weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    return ask(messages=messages, tools=[WEATHER, TIME], **fields)


# --- the real engine, by the three ways that LiteLLM has to it ---


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


async def test_text_comes_whole_and_streamed(real: LiteLLMBackend) -> None:
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
async def test_forced_calls_come_with_their_name(real: LiteLLMBackend, choice: Any) -> None:
    request = ask(tools=[WEATHER], tool_choice=choice, max_tokens=400, temperature=0.0)
    answer = await answer_to(real, request)
    # A model that must call may go on calling until its tokens are used up.
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
    schema = {"type": "object", "properties": {"x": {"type": "string", "minLength": 1500}}}
    schema |= {"required": ["x"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    request = ask(response_format=form, max_tokens=1800, stream=True)
    if real._config.backend == "anthropic":  # LiteLLM takes `minLength` out for Anthropic
        request = ask(tools=[long_tool(schema)], tool_choice="required", max_tokens=1800)
    # Looked for from the beginning: a quick machine needs little time for the whole answer.
    running = asyncio.create_task(asyncio.to_thread(vllm_server.wait_until_running))
    async with aclosing(real.chat(request)) as chunks:
        await anext(chunks)
        await running
    deadline = time.monotonic() + 10
    while await asyncio.to_thread(vllm_server.running_requests):
        assert time.monotonic() < deadline, "the server goes on for nobody"
        await asyncio.sleep(0.05)


def long_tool(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "long", "parameters": schema}}


async def test_too_long_a_prompt_is_told_from_another_bad_request(real: LiteLLMBackend) -> None:
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


# --- Gemini ---


async def test_gemini_answers_in_its_own_format(connect: Connect) -> None:
    request = ask(temperature=0.5, top_p=0.5, top_k=3, seed=7, max_tokens=50, stop=["zz"])
    with serving(gemini) as fake:
        answer = await answer_to(connect("google", fake.url, model="gemini-2.5-flash"), request)
    assert answer.text.split() == TEXT.split()
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 7)
    assert fake.paths == ["/models/gemini-2.5-flash:streamGenerateContent"]
    assert fake.headers[0]["x-goog-api-key"] == SECRET
    settings = fake.requests[0]["generationConfig"]
    assert {name: settings[name] for name in ("temperature", "seed")} == {
        "temperature": 0.5,
        "seed": 7,
    }
    assert 0.5 in (settings.get("top_p"), settings.get("topP"))
    assert 3 in (settings.get("top_k"), settings.get("topK"))
    assert 50 in (settings.get("max_output_tokens"), settings.get("maxOutputTokens"))
    assert ["zz"] in (settings.get("stop_sequences"), settings.get("stopSequences"))


async def test_gemini_makes_several_calls(connect: Connect) -> None:
    request = ask(tools=[WEATHER, TIME], tool_choice="required")
    with serving(gemini) as fake:
        answer = await answer_to(connect("gemini", fake.url, model="gemini-2.5-flash"), request)
        named = request.model_copy(update={"tool_choice": NAMED})
        one = await answer_to(connect("gemini", fake.url, model="gemini-2.5-flash"), named)
    assert [call.name for call in answer.tool_calls] == ["weather/now", "weather__now"]
    assert len({call.id for call in answer.tool_calls}) == 2
    assert all(json.loads(c.arguments) == {"city": "Rome", "days": 4} for c in answer.tool_calls)
    assert answer.finish_reason == "tool_calls"
    assert [call.name for call in one.tool_calls] == ["weather/now"]


async def test_gemini_answers_a_tool_result_and_a_schema(connect: Connect) -> None:
    with serving(gemini) as fake:
        backend = connect("gemini", fake.url, model="gemini-2.5-flash")
        told = await answer_to(backend, after_a_tool())
        form = await answer_to(backend, ask(response_format=JSON))
        short = await answer_to(backend, ask(max_tokens=2))
    assert told.text.split() == ["The", "tool", "said", "so."]
    assert json.loads(form.text) == {"city": "Rome", "days": 4}
    assert (short.text.split(), short.finish_reason) == (TEXT.split()[:2], "length")


# --- Ollama ---


async def test_ollama_answers_in_its_own_format(connect: Connect) -> None:
    request = ask(temperature=0.5, top_p=0.5, top_k=3, min_p=0.1, seed=7, max_tokens=50, stop="zz")
    with serving(ollama) as fake:
        answer = await answer_to(connect("ollama", fake.url, api_key=None, model="llama"), request)
    assert answer.text.split() == TEXT.split()
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 7)
    assert fake.paths == ["/api/chat"]
    assert fake.requests[0]["model"] == "llama"
    assert fake.requests[0]["options"] == {
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "seed": 7,
        "num_predict": 50,
        "stop": "zz",
    }


async def test_ollama_makes_several_calls(connect: Connect) -> None:
    request = ask("call them", tools=[WEATHER, TIME], tool_choice="auto", parallel_tool_calls=True)
    with serving(ollama) as fake:
        answer = await answer_to(connect("ollama", fake.url, model="llama"), request)
    assert [call.name for call in answer.tool_calls] == ["weather/now", "weather__now"]
    assert len({call.id for call in answer.tool_calls}) == 2
    assert all(json.loads(c.arguments) == {"city": "Rome", "days": 4} for c in answer.tool_calls)
    assert answer.finish_reason == "tool_calls"


async def test_ollama_answers_a_tool_result_and_a_schema(connect: Connect) -> None:
    with serving(ollama) as fake:
        backend = connect("ollama", fake.url, model="llama")
        told = await answer_to(backend, after_a_tool())
        form = await answer_to(backend, ask(response_format=JSON))
        short = await answer_to(backend, ask(max_tokens=2))
        none = await answer_to(backend, ask("call", tools=[WEATHER], tool_choice="none"))
    assert told.text.split() == ["The", "tool", "said", "so."]
    assert json.loads(form.text) == {"city": "Rome", "days": 4}
    assert (short.text.split(), short.finish_reason) == (TEXT.split()[:2], "length")
    assert none.tool_calls == ()


# --- nothing is lost on the way ---


@pytest.mark.parametrize(
    ("provider", "asked"),
    [
        ("ollama", {"tool_choice": "required", "tools": [WEATHER]}),
        ("ollama", {"tool_choice": NAMED, "tools": [WEATHER]}),
        ("ollama", {"frequency_penalty": 0.5}),
        ("gemini", {"parallel_tool_calls": False, "tools": [WEATHER, TIME]}),
        ("gemini", {"min_p": 0.5}),
        ("anthropic", {"response_format": {"type": "json_object"}}),
        ("anthropic", {"seed": 1}),
        ("groq", {"top_k": 3}),
        ("openai", {"chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
async def test_what_would_be_lost_is_refused(
    connect: Connect, provider: str, asked: dict[str, Any]
) -> None:
    with serving(streaming()) as fake, pytest.raises(UnsupportedParameter) as error:
        await answer_to(connect(provider, fake.url, model="m"), ask(**asked))
    assert error.value.param in asked
    assert fake.requests == []


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_the_request_goes_out_as_it_was_asked(connect: Connect, provider: str) -> None:
    request = ask(
        max_tokens=7,
        max_completion_tokens=7,
        temperature=0.5,
        seed=3,
        tools=[WEATHER],
        tool_choice=NAMED,
        metadata={"team": "red"},
    )
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect(provider, fake.url, model="theirs"), request)
    [body] = fake.requests
    assert fake.headers[0]["authorization"] == f"Bearer {SECRET}"
    [tool] = body.pop("tools")
    assert tool["function"]["name"] == "weather__now"
    assert body == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "What is 12 + 30?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
        "tool_choice": {"type": "function", "function": {"name": "weather__now"}},
    }


@pytest.mark.parametrize("provider", ["openai", "gemini", "ollama", "groq", "anthropic"])
async def test_what_asks_for_nothing_passes(connect: Connect, provider: str) -> None:
    request = ask(
        frequency_penalty=0,
        presence_penalty=0,
        repetition_penalty=1,
        min_p=0,
        top_k=-1,
        logit_bias={},
        logprobs=False,
        parallel_tool_calls=True,
        tools=[WEATHER],
        tool_choice="auto",
        response_format={"type": "text"},
    )
    answers = {"gemini": gemini, "ollama": ollama}
    answer = answers.get(provider, streaming(SOME, STOP, usage(), DONE))
    # None of the fakes speaks Anthropic's format, in which only the request is looked at.
    with serving(answer) as fake, suppress(ProviderError):
        await answer_to(connect(provider, fake.url, model="m"), request)
    [body] = fake.requests
    if provider != "ollama":
        assert "-1" not in json.dumps(body)


async def test_a_neutral_value_goes_out_where_the_model_has_the_parameter(
    connect: Connect,
) -> None:
    """A vLLM model's own settings may hold something else."""
    neutral = {"repetition_penalty": 1, "top_k": -1, "min_p": 0, "frequency_penalty": 0}
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect("hosted_vllm", fake.url, model="m"), ask(**neutral))
    assert {name: fake.requests[0][name] for name in neutral} == neutral


@pytest.mark.parametrize("tier", ["priority", "flex"])
async def test_a_service_tier_is_bought_only_where_the_operator_allows_it(
    connect: Connect, tier: str
) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        plain = connect("openai", fake.url, model="gpt-4o")
        with pytest.raises(UnsupportedParameter, match=f"service_tier={tier}.* allows none"):
            await answer_to(plain, ask(service_tier=tier))
        for asks_nothing in ("auto", "default"):
            await answer_to(plain, ask(service_tier=asks_nothing))
        flexible = connect("openai", fake.url, model="gpt-4o", service_tiers=["flex"])
        with suppress(UnsupportedParameter):
            await answer_to(flexible, ask(service_tier=tier))
    sent = [body.get("service_tier") for body in fake.requests]
    assert sent == [None, None, *(["flex"] if tier == "flex" else [])]


def test_tiers_that_the_provider_does_not_have_are_refused(connect: Connect) -> None:
    with pytest.raises(ValueError, match="service_tiers"):
        connect("ollama", "http://localhost", service_tiers=["flex"])


async def test_what_vllm_has_beyond_openai_goes_out(connect: Connect) -> None:
    own = {"top_k": 3, "min_p": 0.5, "repetition_penalty": 1.5, "chat_template_kwargs": {"a": 1}}
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect("hosted_vllm", fake.url, model="m"), ask(**own))
    assert {name: fake.requests[0][name] for name in own} == own


# --- providers ---


@pytest.mark.parametrize(
    ("backend", "model", "sent"),
    [
        ("openai", "gpt-4o", "openai/gpt-4o"),
        ("openai", "openai/gpt-4o", "openai/gpt-4o"),
        ("groq", "openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"),
        ("google", "gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("google", "gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("ollama", "llama3", "ollama_chat/llama3"),
        ("ollama", "ollama/llama3", "ollama_chat/llama3"),
    ],
)
def test_the_provider_is_put_before_the_model_once(backend: str, model: str, sent: str) -> None:
    assert LiteLLMConfig(name=model, backend=backend).litellm_model == sent


def test_an_unknown_provider_is_refused_with_near_names(connect: Connect) -> None:
    with pytest.raises(ValueError, match=r"'ours': .*'opnai'.*\bopenai\b"):
        connect("opnai", None)


async def test_requests_share_one_pool_of_connections(connect: Connect) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        backend = connect("hosted_vllm", fake.url, model="m")
        for _ in range(5):
            await answer_to(backend, ask())
        await backend.aclose()
    assert len(fake.connections) == 1


async def test_tokens_are_counted_for_a_provider_that_does_not(connect: Connect) -> None:
    with serving(streaming(SOME, STOP, DONE)) as fake:
        answer = await answer_to(connect("openai", fake.url, model="m"), ask())
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


def sent_by_anthropic(type: str, **fields: Any) -> str:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n"


async def test_anthropics_cached_tokens_are_among_the_prompts(connect: Connect) -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 1,
    }
    message = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": []}
    events = [
        sent_by_anthropic("message_start", message=message | {"usage": usage}),
        sent_by_anthropic(
            "content_block_start", index=0, content_block={"type": "text", "text": ""}
        ),
        sent_by_anthropic(
            "content_block_delta", index=0, delta={"type": "text_delta", "text": "some"}
        ),
        sent_by_anthropic("content_block_stop", index=0),
        sent_by_anthropic(
            "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}
        ),
        sent_by_anthropic("message_stop"),
    ]
    with serving(streaming(*events)) as fake:
        answer = await answer_to(connect("anthropic", fake.url, model="m"), ask())
    assert answer.usage == Usage(
        360, 7, cached_tokens=300, cache_written_tokens=50, cache_written_1h_tokens=30
    )


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_a_service_tier_is_told_and_so_is_what_was_cached(
    connect: Connect, provider: str
) -> None:
    counts = {
        "prompt_tokens": 300,
        "completion_tokens": 40,
        "total_tokens": 340,
        "prompt_tokens_details": {"cached_tokens": 256},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    events = [json.loads(event.removeprefix("data: ")) for event in (SOME, STOP, usage())]
    events[-1]["usage"] = counts
    sent = [f"data: {json.dumps(event | {'service_tier': 'flex'})}\n\n" for event in events]
    with serving(streaming(*sent, DONE)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask())
    assert answer.usage == Usage(
        300, 40, cached_tokens=256, reasoning_tokens=30, service_tier="flex"
    )


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])  # the two clients LiteLLM has
async def test_a_model_that_thinks_in_silence_is_waited_for(
    connect: Connect, provider: str
) -> None:
    """Before the response begins, and between thoughts; not once it has begun to answer."""
    thought = chunk(delta={"role": "assistant", "content": "", "reasoning_content": "hm"})
    slow = streaming(thought, 1.2, SOME, STOP, usage(), DONE)
    with serving(thinking(1.2, slow)) as fake:
        backend = connect(provider, fake.url, model="m", timeout=0.8, thinking_timeout=60)
        answer = await answer_to(backend, ask())
    assert (answer.reasoning, answer.text) == ("hm", "some")
    with serving(streaming(SOME, 30.0)) as fake:
        backend = connect(provider, fake.url, model="m", timeout=0.8, thinking_timeout=60)
        with pytest.raises(DeadlineExceeded):
            await answer_to(backend, ask())


# --- errors ---


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])  # the two clients LiteLLM has
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_becomes_the_right_error(connect: Connect, provider: str, fault: str) -> None:
    answer, kind = FAULTS[fault]
    with serving(answer) as fake:
        backend = connect(provider, fake.url, model="m", timeout=1.0)
        with pytest.raises(kind) as error:
            await answer_to(backend, ask())
        await backend.aclose()
    assert error.type is kind
    assert "'ours'" in error.value.message
    assert SECRET not in "".join(traceback.format_exception(error.value))
    assert len(fake.requests) == 1  # the router decides on another try


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic", "gemini", "ollama"])
async def test_every_provider_tells_its_rate_limit(connect: Connect, provider: str) -> None:
    with serving(FAULTS["rate limit"][0]) as fake, pytest.raises(RateLimited) as error:
        await answer_to(connect(provider, fake.url, model="m"), ask())
    assert error.value.retry_after == 7


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic", "gemini", "ollama"])
async def test_every_provider_can_be_unreachable_or_silent(connect: Connect, provider: str) -> None:
    with pytest.raises(Unreachable):
        await answer_to(connect(provider, "http://127.0.0.1:9", model="m"), ask())
    with serving(FAULTS["silence"][0]) as fake, pytest.raises(DeadlineExceeded):
        await answer_to(connect(provider, fake.url, model="m", timeout=0.5), ask())


async def test_a_bad_request_gives_the_reason(connect: Connect) -> None:
    for provider in ("openai", "hosted_vllm"):
        with serving(FAULTS["bad value"][0]) as fake, pytest.raises(InvalidRequest) as error:
            await answer_to(connect(provider, fake.url, model="m"), ask())
        assert error.value.message.endswith(": seed too big …")


# Each wire format that LiteLLM writes itself, by a model that can do most.
FORMATS = {
    "openai": "gpt-4o",
    "hosted_vllm": "m",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "ollama": "llama",
    "bedrock": "amazon.nova-pro-v1:0",
}


@pytest.fixture
def connect_format(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes a backend for one of `FORMATS`, with the credentials that it wants."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")  # from Amazon's own manual
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def connect_format(provider: str, url: str, **fields: Any) -> LiteLLMBackend:
        key = {"api_key": None} if provider == "bedrock" else {}
        return connect(provider, url, model=FORMATS[provider], **key, **fields)

    return connect_format


def with_arguments(arguments: str) -> ChatRequest:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    return ask(messages=messages, tools=[{"type": "function", "function": {"name": "f"}}])


def with_image(url: str) -> ChatRequest:
    image = {"type": "image_url", "image_url": {"url": url}}
    return ask(messages=[{"role": "user", "content": [image]}])


def with_schema(schema: Any) -> ChatRequest:
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    return ask(response_format=form)


NO_JSON = with_arguments("{not")
NO_CALL = ask(
    messages=[
        {"role": "user", "content": "Hi"},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
)
NO_IMAGE = with_image("data:image/png,AAAA")
ODD_TOOL = ask(tools=[long_tool({"type": "object", "properties": {"a": True}})])
SYSTEM_ALONE = ask(messages=[{"role": "system", "content": "Hi"}])


@pytest.mark.parametrize(
    ("provider", "request_"),
    [
        ("gemini", NO_JSON),
        ("gemini", NO_CALL),
        ("gemini", NO_IMAGE),
        ("gemini", ODD_TOOL),
        ("gemini", with_arguments("[" * 100_000)),
        ("ollama", NO_JSON),
        ("ollama", with_arguments("")),
        ("ollama", with_arguments("9" * 5000)),
        ("anthropic", NO_JSON),
        ("anthropic", NO_IMAGE),
        ("anthropic", SYSTEM_ALONE),
        ("bedrock", NO_IMAGE),
        ("bedrock", with_image("data:application/zip;base64,AAAA")),
        ("bedrock", with_schema({"type": ["string", "null"]})),
        ("bedrock", SYSTEM_ALONE),
    ],
)
async def test_what_cannot_be_translated_is_the_callers_to_mend(
    connect_format: Connect, provider: str, request_: ChatRequest
) -> None:
    with serving(streaming()) as fake, pytest.raises(Untranslatable) as error:
        await answer_to(connect_format(provider, fake.url), request_)
    assert fake.requests == []
    assert (error.value.status, error.value.retryable) == (400, False)


UNENDED = [streaming(SOME, *rest) for rest in ([], [DONE], [usage(), DONE], [usage()])]


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "groq", "openrouter"])
@pytest.mark.parametrize("unended", UNENDED, ids=["cut", "done", "usage, done", "usage"])
async def test_an_answer_without_a_finish_reason_has_broken_off(
    connect: Connect, provider: str, unended: Any
) -> None:
    """Some of LiteLLM's streams took a `[DONE]` for the finish reason "stop"."""
    with serving(unended) as fake, pytest.raises(ProviderError, match="broke off"):
        await answer_to(connect(provider, fake.url, model="m"), ask())


async def test_gemini_without_a_finish_reason_has_broken_off(connect: Connect) -> None:
    """LiteLLM took each piece of Gemini's without one for the last."""
    parts = {"candidates": [{"content": {"role": "model", "parts": [{"text": "some"}]}}]}
    cut = streaming(f"data: {json.dumps(parts)}\r\n\r\n")
    with serving(cut) as fake, pytest.raises(ProviderError, match="broke off"):
        await answer_to(connect("gemini", fake.url, model="gemini-2.5-flash"), ask())


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_an_answer_may_speak_of_done(connect: Connect, provider: str) -> None:
    """LiteLLM took any line with it for the end."""
    said = chunk(delta={"role": "assistant", "content": "It ends with [DONE]"})
    with serving(streaming(said, SOME, STOP, usage(), DONE)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask())
    assert answer.text == "It ends with [DONE]some"


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "openrouter"])
async def test_reasoning_comes_apart_from_the_text(connect: Connect, provider: str) -> None:
    thought = chunk(delta={"role": "assistant", "reasoning": "hm"})
    with serving(streaming(thought, thought, SOME, STOP, usage(), DONE)) as fake:
        backend = connect(provider, fake.url, model="m")
        async with aclosing(backend.chat(ask(stream=True))) as chunks:
            got = [(piece.reasoning, piece.text) async for piece in chunks]
    assert got == [("hm", ""), ("hm", ""), ("", "some"), ("", "")]


@pytest.mark.parametrize("provider", FORMATS)
async def test_whether_a_model_can_be_asked_is_found_out_without_asking(
    connect_format: Connect, provider: str
) -> None:
    with serving(streaming()) as fake:
        assert await connect_format(provider, fake.url)._can_be_asked()
    assert fake.requests == []


@pytest.mark.parametrize(
    ("provider", "request_"), [("gemini", NO_JSON), ("bedrock", NO_IMAGE), ("anthropic", NO_JSON)]
)
async def test_what_the_operator_must_mend_is_not_the_callers_fault(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: str, request_: ChatRequest
) -> None:
    """No key is set, so that nobody's requests are sent, good or bad."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(streaming()) as fake:
        backend = connect(provider, fake.url, model=FORMATS[provider], api_key=None)
        for asked in (ask(), request_):
            with pytest.raises((ProviderError, ProviderRejected)):
                await answer_to(backend, asked)
    assert fake.requests == []


async def test_a_refusal_to_give_a_token_is_not_the_callers_fault(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some providers' keys are exchanged for tokens before a request is sent."""

    async def refused(**call: Any) -> None:
        request = httpx.Request("POST", "http://tokens.invalid")
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(400))

    monkeypatch.setattr("deployments.backends.litellm.backend.litellm.acompletion", refused)
    with pytest.raises(ProviderRejected):
        await answer_to(connect("gemini", "http://localhost", model="m"), ask())


async def test_a_missing_library_is_not_the_callers_fault(
    connect_format: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)  # as if it weren't installed
    with serving(streaming()) as fake, pytest.raises(ProviderError):
        await answer_to(connect_format("bedrock", fake.url), NO_IMAGE)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ProviderRejected), (429, RateLimited), (500, ProviderError)]
)
async def test_a_status_decides_also_where_litellm_answers_by_the_responses_api(
    connect: Connect, status: int, kind: type[LLMError]
) -> None:
    with serving(failing(status)) as fake:
        with pytest.raises(kind):
            await answer_to(connect("openai", fake.url, model="gpt-5-codex"), ask())
        assert len(fake.requests) == 1


async def test_a_provider_is_asked_once_also_where_litellm_drops_our_limit(
    connect: Connect,
) -> None:
    with serving(failing(500)) as fake:
        with pytest.raises(ProviderError):
            await answer_to(connect("deepinfra", fake.url, model="m"), ask())
        assert len(fake.requests) == 1


@pytest.mark.parametrize("provider", FORMATS)
async def test_a_status_decides_whose_fault_it_is_not_the_words_beside_it(
    connect_format: Connect, provider: str
) -> None:
    """LiteLLM guesses from the text, in which a caller's own words may be quoted."""
    words = "429 quota, 500 Internal Server Error, Request timed out, API key not valid, 403"
    statuses = [400, 401, 402, 403, 404, 405, 408, 409, 418, 429, 500, 503, 504]
    answers = iter([failing(status, message=words) for status in statuses])
    with serving(lambda request, body: next(answers)(request, body)) as fake:
        backend = connect_format(provider, fake.url)
        with pytest.raises(InvalidRequest) as error:
            await answer_to(backend, ask())
        assert error.type is InvalidRequest
        for status in statuses[1:]:
            with pytest.raises(LLMError) as failure:
                await answer_to(backend, ask())
            assert not isinstance(failure.value, InvalidRequest), status
            assert failure.value.retryable


def test_every_error_of_the_library_is_in_the_table() -> None:
    library = {
        cls
        for name in dir(exceptions)
        if inspect.isclass(cls := getattr(exceptions, name))
        and issubclass(cls, Exception)
        and cls.__module__ == exceptions.__name__
    }
    assert library - set(ERRORS) == set()
    assert all(issubclass(ours, LLMError) for ours in ERRORS.values())


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"backend": "openai", "model": "gpt-4o-mini"}, 128_000),
        ({"backend": "google", "model": "gemini-2.5-flash"}, 1_048_576),
        ({"backend": "openai", "model": "gpt-4o-mini", "context_window": 5}, 5),
        ({"backend": "bedrock", "model": "anthropic.claude-3-5-sonnet-20241022-v2:0"}, 200_000),
        ({"backend": "openai", "model": "ours"}, None),
        # Its name says nothing on a server of one's own.
        ({"backend": "hosted_vllm", "model": "gpt-4o-mini", "hostname": "http://h"}, None),
    ],
)
async def test_the_window_is_the_listed_one(fields: dict[str, Any], window: int | None) -> None:
    backend = LiteLLMBackend(LiteLLMConfig.model_validate({"name": "m", **fields}))
    assert await backend.context_window() == window
