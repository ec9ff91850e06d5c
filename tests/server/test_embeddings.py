"""Promise: models that embed run in deployments like those that answer."""

from collections.abc import Iterator

import openai
import pytest
from fake_embeddings import openai_format, vector_of
from fake_providers import serving
from ray import serve as rayserve
from serve_fixtures import Server

from serve.app import build


@pytest.fixture(scope="module")
def server(ray_cluster: str) -> Iterator[Server]:
    """A server of models that embed alone: one in a shared deployment, one in its own."""
    with serving(openai_format) as fake:
        common = {"backend": "vllm", "task": "embedding", "hostname": fake.url}
        models = [
            {"name": "shared", **common},
            {"name": "alone", "own_deployment": True, **common},
        ]
        rayserve.run(
            build({"llms": {"models": models}}), name="embeddings", route_prefix="/embeddings"
        )
        running = Server(f"{ray_cluster}/embeddings")
        running.wait_until("ready", patience_s=120)
        yield running
        rayserve.delete("embeddings")


@pytest.mark.parametrize("model", ["shared", "alone"])
def test_a_deployment_embeds(server: Server, model: str) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    texts = ["x" * length for length in range(1, 2049)]
    found = client.embeddings.create(model=model, input=texts)
    assert [each.embedding for each in found.data] == [vector_of(text) for text in texts]
    with pytest.raises(openai.BadRequestError, match="POST /v1/embeddings"):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.NotFoundError, match="matches no model"):
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hi"}])
