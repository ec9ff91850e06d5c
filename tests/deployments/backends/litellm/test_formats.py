"""Promise: answers in Gemini's, Ollama's and Anthropic's own formats become the same chunks."""

import json
from typing import Any

import pytest
from asking import answer_to, ask
from fake_providers import DONE, SECRET, SOME, STOP, chunk, serving, streaming, thinking, usage
from litellm_support import NAMED, TIME, Connect, after_a_tool
from provider_formats import JSON, TEXT, WEATHER, gemini, ollama

from deployments.contract import Usage
from deployments.errors import DeadlineExceeded


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


async def test_requests_share_one_pool_of_connections(connect: Connect) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        backend = connect("hosted_vllm", fake.url, model="m")
        for _ in range(5):
            await answer_to(backend, ask())
        await backend.aclose()
    assert len(fake.connections) == 1


async def test_tokens_are_counted_if_the_provider_reports_none(connect: Connect) -> None:
    with serving(streaming(SOME, STOP, DONE)) as fake:
        answer = await answer_to(connect("openai", fake.url, model="m"), ask())
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


def sent_by_anthropic(type: str, **fields: Any) -> str:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n"


async def test_anthropics_cached_tokens_are_part_of_the_prompt(connect: Connect) -> None:
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
async def test_the_service_tier_and_cached_tokens_are_reported(
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
async def test_silence_while_thinking_is_allowed(connect: Connect, provider: str) -> None:
    """Before the response begins and between thoughts, but not within the answer."""
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
