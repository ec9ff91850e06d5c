"""Promise: an answer without a finish reason has broken off, whatever LiteLLM makes of it."""

import json
from contextlib import aclosing
from typing import Any

import pytest
from asking import answer_to, ask
from fake_providers import DONE, SOME, STOP, chunk, serving, streaming, usage
from litellm_support import Connect

from deployments.errors import ProviderError

UNENDED = [streaming(SOME, *rest) for rest in ([], [DONE], [usage(), DONE], [usage()])]


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "groq", "openrouter"])
@pytest.mark.parametrize("unended", UNENDED, ids=["cut", "done", "usage, done", "usage"])
async def test_an_answer_without_a_finish_reason_has_broken_off(
    connect: Connect, provider: str, unended: Any
) -> None:
    """Some of LiteLLM's streams turn `[DONE]` into the finish reason "stop"."""
    with serving(unended) as fake, pytest.raises(ProviderError, match="broke off"):
        await answer_to(connect(provider, fake.url, model="m"), ask())


async def test_gemini_without_a_finish_reason_has_broken_off(connect: Connect) -> None:
    """LiteLLM takes each of Gemini's pieces without one for the last."""
    parts = {"candidates": [{"content": {"role": "model", "parts": [{"text": "some"}]}}]}
    cut = streaming(f"data: {json.dumps(parts)}\r\n\r\n")
    with serving(cut) as fake, pytest.raises(ProviderError, match="broke off"):
        await answer_to(connect("gemini", fake.url, model="gemini-2.5-flash"), ask())


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_an_answer_may_contain_the_end_mark(connect: Connect, provider: str) -> None:
    """LiteLLM takes any line that contains it for the end."""
    said = chunk(delta={"role": "assistant", "content": "It ends with [DONE]"})
    with serving(streaming(said, SOME, STOP, usage(), DONE)) as fake:
        answer = await answer_to(connect(provider, fake.url, model="m"), ask())
    assert answer.text == "It ends with [DONE]some"


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "openrouter"])
async def test_reasoning_is_separate_from_the_text(connect: Connect, provider: str) -> None:
    thought = chunk(delta={"role": "assistant", "reasoning": "hm"})
    with serving(streaming(thought, thought, SOME, STOP, usage(), DONE)) as fake:
        backend = connect(provider, fake.url, model="m")
        async with aclosing(backend.chat(ask(stream=True))) as chunks:
            got = [(piece.reasoning, piece.text) async for piece in chunks]
    assert got == [("hm", ""), ("hm", ""), ("", "some"), ("", "")]
