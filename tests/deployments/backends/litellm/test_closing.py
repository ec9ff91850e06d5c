"""Promise: closing a model leaves the others of its process alone; the last one cleans up."""

import time
from contextlib import aclosing
from weakref import WeakSet

import litellm
import openai
import pytest
from asking import answer_to, ask
from fake_providers import DONE, SOME, STOP, serving, streaming, usage
from litellm_support import Connect

from deployments.backends.litellm import backend as litellm_backend

SLOW = streaming(SOME, 0.3, SOME, STOP, usage(), DONE)
# The clients that LiteLLM has: the openai library's and its own.
CLIENTS = ["openai", "hosted_vllm"]


@pytest.mark.parametrize("provider", CLIENTS)
async def test_closing_one_model_breaks_no_other(connect: Connect, provider: str) -> None:
    with serving(SLOW) as fake:
        stays, leaves = (connect(provider, fake.url, model=name) for name in ("m", "n"))
        async with aclosing(stays.chat(ask(stream=True))) as chunks:
            first = await anext(chunks)
            await answer_to(leaves, ask())
            await leaves.aclose()
            await leaves.aclose()  # twice is once
            rest = [chunk.text async for chunk in chunks]
        assert first.text + "".join(rest) == "somesome"
        assert (await answer_to(stays, ask())).text == "somesome"
        assert len(fake.connections) == 2  # one for each of the two at a time


@pytest.mark.parametrize("provider", CLIENTS)
async def test_a_model_added_after_the_last_was_closed_answers(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.setattr(litellm_backend, "_OPEN", WeakSet())  # without those of other tests
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        for _ in range(2):
            backend = connect(provider, fake.url, model="m")
            assert (await answer_to(backend, ask())).text == "some"
            await backend.aclose()
    assert len(fake.connections) == 2


def test_a_thousand_models_start_at_once(connect: Connect) -> None:
    """What takes milliseconds is done once for a process, or at a model's first request."""
    connect("openai", None, model="gpt-4o")
    started = time.process_time()
    for number in range(1000):
        connect("groq", None, model=f"m{number}")
    assert time.process_time() - started < 2.0


async def test_the_client_of_each_of_many_models_is_kept(connect: Connect) -> None:
    """LiteLLM keeps 200 of its own accord."""
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        models = [connect("openai", f"{fake.url}/{number}", model="m") for number in range(210)]
        for model in models:
            await answer_to(model, ask())
        kept = litellm.in_memory_llm_clients_cache.cache_dict.values()
        urls = [str(client.base_url) for client in kept if isinstance(client, openai.AsyncOpenAI)]
        assert sum(url.startswith(fake.url) for url in urls) == len(models)
