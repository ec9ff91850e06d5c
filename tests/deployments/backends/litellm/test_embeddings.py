"""Promise: models of LiteLLM's providers embed, each in its own wire format."""

import pytest
from fake_embeddings import (
    cohere_format,
    gemini_format,
    ollama_format,
    openai_format,
    vector_of,
)
from fake_providers import SECRET, Answer, failing, refusing, serving, silent
from litellm_support import Connect
from starlette.responses import JSONResponse

from deployments.contract import Embedder, EmbeddingRequest
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
    UnsupportedParameter,
)
from ops.ports import free_port

REQUEST = EmbeddingRequest(model="ours", input=["one", "three"])
FORMATS: dict[str, tuple[str, Answer]] = {
    "openai": ("text-embedding-3-small", openai_format),
    "hosted_vllm": ("m", openai_format),
    "cohere": ("embed-english-v3.0", cohere_format),
    "gemini": ("gemini-embedding-001", gemini_format),
    "ollama": ("nomic-embed-text", ollama_format),
}


@pytest.mark.parametrize("provider", FORMATS)
async def test_a_provider_embeds_texts(connect: Connect, provider: str) -> None:
    model, answer = FORMATS[provider]
    with serving(answer) as fake:
        backend = connect(provider, fake.url, model=model, task="embedding")
        assert isinstance(backend, Embedder)
        found = await backend.embed(REQUEST)
    assert found.vectors.tolist() == [vector_of("one"), vector_of("three")]
    assert found.prompt_tokens > 0
    assert len(fake.requests) == 1


async def test_openais_options_are_sent(connect: Connect) -> None:
    with serving(openai_format) as fake:
        backend = connect("openai", fake.url, model="text-embedding-3-small", task="embedding")
        more = {"dimensions": 2, "user": "u"}
        found = await backend.embed(REQUEST.model_copy(update=more))
        ids = await backend.embed(EmbeddingRequest(model="ours", input=[[1, 2], [3]]))
    assert found.vectors.shape == (2, 2)
    assert ids.vectors[:, 0].tolist() == [2.0, 1.0]
    sent = fake.requests[0]
    assert (sent["model"], sent["dimensions"], sent["user"]) == ("text-embedding-3-small", 2, "u")
    assert fake.requests[1]["input"] == [[1, 2], [3]]
    assert fake.headers[0]["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "text-embedding-ada-002"), ("mistral", "mistral-embed")]
)
async def test_dimensions_that_a_provider_lacks_are_refused(
    connect: Connect, provider: str, model: str
) -> None:
    with serving(openai_format) as fake:
        backend = connect(provider, fake.url, model=model, task="embedding")
        with pytest.raises(UnsupportedParameter, match="'ours' does not support 'dimensions'"):
            await backend.embed(REQUEST.model_copy(update={"dimensions": 2}))
    assert fake.requests == []


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failing(401, message=f"wrong key {SECRET}"), ProviderRejected),
        (failing(429, {"Retry-After": "7"}, message="later"), RateLimited),
        (failing(500, message="out of order"), ProviderError),
        (refusing(message="input is too odd"), InvalidRequest),
        (lambda request, body: JSONResponse({"data": []}), ProviderError),
        (silent, DeadlineExceeded),
    ],
)
async def test_its_errors_become_ours_after_one_request(
    connect: Connect, provider: str, answer: Answer, kind: type[LLMError]
) -> None:
    with serving(answer) as fake:
        timeout = 1.0 if kind is DeadlineExceeded else 120
        backend = connect(
            provider, fake.url, model="text-embedding-3-small", task="embedding", timeout=timeout
        )
        with pytest.raises(kind) as error:
            await backend.embed(REQUEST)
    assert type(error.value) is kind
    assert SECRET not in str(error.value)
    assert len(fake.requests) == 1


async def test_an_absent_server_is_unreachable(connect: Connect) -> None:
    backend = connect("openai", f"http://127.0.0.1:{free_port()}", task="embedding")
    with pytest.raises(Unreachable):
        await backend.embed(REQUEST)


async def test_a_provider_without_embeddings_is_the_operators_to_fix(connect: Connect) -> None:
    with serving(openai_format) as fake, pytest.raises(ProviderRejected):
        await connect("anthropic", fake.url, model="m", task="embedding").embed(REQUEST)
