"""Promise: a parameter reaches the provider as it was given, or is refused; none is dropped."""

import json
from contextlib import suppress
from typing import Any

import pytest
from asking import answer_to, ask
from fake_providers import DONE, SECRET, SOME, STOP, serving, streaming, usage
from litellm_support import NAMED, TIME, Connect
from provider_formats import WEATHER, gemini, ollama

from deployments.errors import ProviderError, UnsupportedParameter


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
async def test_a_parameter_that_would_be_dropped_is_refused(
    connect: Connect, provider: str, asked: dict[str, Any]
) -> None:
    with serving(streaming()) as fake, pytest.raises(UnsupportedParameter) as error:
        await answer_to(connect(provider, fake.url, model="m"), ask(**asked))
    assert error.value.param in asked
    assert fake.requests == []


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_the_request_is_sent_as_given(connect: Connect, provider: str) -> None:
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
async def test_neutral_values_pass(connect: Connect, provider: str) -> None:
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
    # No fake here speaks Anthropic's format; only the request is checked.
    with serving(answer) as fake, suppress(ProviderError):
        await answer_to(connect(provider, fake.url, model="m"), request)
    [body] = fake.requests
    if provider != "ollama":
        assert "-1" not in json.dumps(body)


async def test_a_neutral_value_is_sent_if_the_model_has_the_parameter(
    connect: Connect,
) -> None:
    """A vLLM model's own defaults may differ."""
    neutral = {"repetition_penalty": 1, "top_k": -1, "min_p": 0, "frequency_penalty": 0}
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect("hosted_vllm", fake.url, model="m"), ask(**neutral))
    assert {name: fake.requests[0][name] for name in neutral} == neutral


@pytest.mark.parametrize("tier", ["priority", "flex"])
async def test_only_service_tiers_that_the_operator_allows_are_sent(
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


def test_tiers_that_the_provider_lacks_are_refused_at_the_start(connect: Connect) -> None:
    with pytest.raises(ValueError, match="service_tiers"):
        connect("ollama", "http://localhost", service_tiers=["flex"])


async def test_vllms_own_parameters_are_sent(connect: Connect) -> None:
    own = {"top_k": 3, "min_p": 0.5, "repetition_penalty": 1.5, "chat_template_kwargs": {"a": 1}}
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect("hosted_vllm", fake.url, model="m"), ask(**own))
    assert {name: fake.requests[0][name] for name in own} == own
