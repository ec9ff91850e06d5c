"""Promise: a vLLM or SGLang server embeds, in OpenAI's wire format."""

from collections.abc import Callable

import pytest
from fake_embeddings import openai_format, vector_of
from fake_providers import SECRET, Answer, failing, refusing, serving, silent
from starlette.responses import JSONResponse

from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.contract import Embedder, EmbeddingRequest
from deployments.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
)
from ops.ports import free_port

Connect = Callable[..., OpenAIBackend]

REQUEST = EmbeddingRequest(model="ours", input=["one", "three"])


async def test_it_embeds_texts(connect: Connect) -> None:
    with serving(openai_format) as fake:
        backend = connect(fake.url, task="embedding", model="theirs")
        assert isinstance(backend, Embedder)
        found = await backend.embed(REQUEST)
        short = await backend.embed(REQUEST.model_copy(update={"dimensions": 2, "user": "u"}))
    assert found.vectors.tolist() == [vector_of("one"), vector_of("three")]
    assert found.prompt_tokens == 6
    assert short.vectors.shape == (2, 2)
    assert fake.paths == ["/v1/embeddings"] * 2
    plain = {"model": "theirs", "input": ["one", "three"], "encoding_format": "base64"}
    assert fake.requests == [plain, {**plain, "dimensions": 2, "user": "u"}]
    assert fake.headers[0]["authorization"] == f"Bearer {SECRET}"


async def test_it_embeds_token_ids(connect: Connect) -> None:
    with serving(openai_format) as fake:
        backend = connect(fake.url, task="embedding")
        found = await backend.embed(EmbeddingRequest(model="ours", input=[[1, 2], [3]]))
    assert fake.requests[0]["input"] == [[1, 2], [3]]
    assert found.vectors[:, 0].tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failing(401, message=f"wrong key {SECRET}"), ProviderRejected),
        (failing(404, message="no such model"), ProviderRejected),
        (failing(429, {"Retry-After": "7"}, message="later"), RateLimited),
        (failing(500, message="out of order"), ProviderError),
        (refusing(message="dimensions are fixed"), InvalidRequest),
        (
            refusing(message="at most 512 tokens", param="input_tokens"),
            ContextLengthExceeded,
        ),
        (lambda request, body: JSONResponse({"data": []}), ProviderError),
        (lambda request, body: JSONResponse([]), ProviderError),
        (lambda request, body: JSONResponse({"error": {"message": "no"}}), ProviderError),
    ],
)
async def test_its_errors_become_ours(
    connect: Connect, answer: Answer, kind: type[LLMError]
) -> None:
    with serving(answer) as fake, pytest.raises(kind) as error:
        await connect(fake.url, task="embedding").embed(REQUEST)
    assert type(error.value) is kind
    assert SECRET not in str(error.value)
    if kind is RateLimited:
        assert error.value.retry_after == 7


async def test_silence_and_an_absent_server_are_told_apart(connect: Connect) -> None:
    with serving(silent) as fake, pytest.raises(DeadlineExceeded):
        await connect(fake.url, task="embedding", timeout=0.1).embed(REQUEST)
    with pytest.raises(Unreachable):
        await connect(f"http://127.0.0.1:{free_port()}", task="embedding").embed(REQUEST)
