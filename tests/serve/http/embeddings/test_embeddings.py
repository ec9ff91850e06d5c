"""Promise: OpenAI's client gets embeddings from the router's embedder and from models that embed,
and these are never asked to answer."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from fake_embeddings import openai_format, vector_of
from fake_providers import Answer, failing, serving, silent
from hosted_models import hosted_models
from recorded import Recorded
from scripted_models import unlimited
from starlette.responses import Response

from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from deployments.embedding.local import LocalEmbedder
from deployments.registry import SHARED, parse
from serve.access.keys import Keys, hash_of, new_key
from serve.config import RouterConfig, ServerConfig
from serve.embeddings import OwnEmbedder
from serve.fleet import Fleet
from serve.handles import InProcess
from serve.http.api import create_api
from serve.http.middleware.gate import guard
from serve.http.server import Server
from serve.routing.prices import prices_of

ENCODER = Encoder()
KEY, OTHER = new_key(), new_key()


@asynccontextmanager
async def serving_models(
    answer: Answer = openai_format, keys: dict[str, list[str]] | None = None, **more: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """The whole API over a chat model and two that embed, at one provider, and the router's own
    embedder; and the provider."""
    async with AsyncExitStack() as stack:
        fake = stack.enter_context(serving(answer))
        common = {"hostname": fake.url, "timeout": 30, **more}
        written = [
            {"name": "chats", "backend": "vllm", **common},
            {"name": "embeds", "backend": "vllm", "task": "embedding", **common},
            {
                "name": "small",
                "backend": "vllm",
                "task": "embedding",
                "cost_per_input_token": 1e-6,
                **common,
            },
        ]
        models = {model.name: model for model in map(parse, written)}
        hosted = await stack.enter_async_context(hosted_models())
        await hosted.configure([*models.values()])
        fleet = Fleet.assemble(
            models,
            dict.fromkeys(models, "Endpoints"),
            dict.fromkeys(SHARED, InProcess(hosted)),
            SHARED,
            None,
            None,
        )
        fleet.embedding.own = OwnEmbedder(DEFAULT_MODEL, LocalEmbedder(ENCODER))
        await fleet.configure(RouterConfig(), prices_of(models.values()))
        config = ServerConfig.model_validate(
            {
                "allow_anonymous": not keys,
                "keys": [
                    {"name": f"team{at}", "sha256": hash_of(key).hex(), "models": names}
                    for at, (key, names) in enumerate((keys or {}).items())
                ],
            }
        )
        api = create_api()
        Server(config, fleet).attach(api)
        guarded = guard(api, config, Keys(config, [*models, DEFAULT_MODEL]), unlimited)
        transport = httpx.ASGITransport(guarded, raise_app_exceptions=False)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        yield await stack.enter_async_context(http), fake


def client(http: httpx.AsyncClient, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=key, base_url="http://localhost/v1", http_client=http, max_retries=0
    )


TEXTS = ["What is 7 plus 5?", "Sort 52, 31, 90."]


async def test_the_routers_embedder_gives_what_its_encoder_gives() -> None:
    async with serving_models() as (http, _):
        # The client asks for base64 unless it is told otherwise.
        coded = await client(http).embeddings.create(model=DEFAULT_MODEL, input=TEXTS)
        plain = await client(http).embeddings.create(
            model=DEFAULT_MODEL, input=TEXTS, encoding_format="float"
        )
    rows = [np.array(each.embedding, np.float32) for each in plain.data]
    assert np.array_equal(rows, ENCODER(TEXTS))
    assert [each.embedding for each in coded.data] == [each.embedding for each in plain.data]
    assert [each.index for each in coded.data] == [0, 1]
    assert coded.model == DEFAULT_MODEL
    assert coded.usage.prompt_tokens == coded.usage.total_tokens > 0


@pytest.mark.parametrize("model", ["embeds", "small"])
async def test_a_model_that_embeds_is_asked(model: str) -> None:
    recorded = Recorded()
    async with serving_models() as (http, fake):
        raw = await client(http).embeddings.with_raw_response.create(
            model=model, input=TEXTS, dimensions=2, user="u"
        )
    found = raw.parse()
    assert [each.embedding for each in found.data] == [vector_of(text)[:2] for text in TEXTS]
    assert (found.model, found.usage.prompt_tokens) == (model, 6)
    assert raw.headers["x-router-model"] == model
    assert raw.headers["x-router-attempts"] == "1"
    assert raw.headers.get("x-router-cost") == ("6e-06" if model == "small" else None)
    assert fake.paths[-1].endswith("/embeddings")
    call = {"gen_ai_operation_name": "embeddings", "gen_ai_request_model": model}
    for name in ("client_operation", "server_request"):
        assert recorded(f"gen_ai_{name}_duration_seconds_count", **call) == 1
    assert recorded("gen_ai_client_token_usage_sum", gen_ai_token_type="input", **call) == 6
    assert recorded("gen_ai_client_token_usage_count", gen_ai_token_type="output", **call) == 0


async def test_one_text_and_token_ids_are_inputs_too() -> None:
    async with serving_models() as (http, fake):
        ask = client(http).embeddings
        assert len((await ask.create(model="embeds", input="one")).data) == 1
        assert len((await ask.create(model="embeds", input=[1, 2])).data) == 1
        assert len((await ask.create(model="embeds", input=[[1, 2], [3]])).data) == 2
        assert [sent["input"] for sent in fake.requests] == [["one"], [[1, 2]], [[1, 2], [3]]]
        with pytest.raises(openai.BadRequestError, match="takes no token ids; send the text"):
            await ask.create(model=DEFAULT_MODEL, input=[1, 2])
        with pytest.raises(openai.BadRequestError, match="leave 'dimensions' out"):
            await ask.create(model=DEFAULT_MODEL, input="one", dimensions=5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": ["a", 5]}, "input.1"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [-1]}, "input.0"),
        ({"input": [[1], [-1]]}, "input.1.0"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"models": ["embeds"]}, "models"),
        ({"model": "auto"}, "model"),
        ({"model": "chats"}, "model"),
    ],
)
async def test_a_wrong_request_names_the_field_at_fault(fields: Any, param: str) -> None:
    async with serving_models() as (http, fake):
        reply = await http.post("/v1/embeddings", json={"model": "embeds", "input": "a"} | fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert fake.requests == []


async def test_a_model_that_embeds_never_answers() -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    async with serving_models() as (http, fake):
        for body in ({"model": "embeds"}, {"model": "auto", "models": ["chats", "small"]}):
            reply = await http.post("/v1/chat/completions", json={"messages": messages, **body})
            assert reply.status_code == 400
            assert "POST /v1/embeddings" in reply.json()["error"]["message"]
        batch = {"queries": ["Hi"], "models": ["embeds"]}
        assert (await http.post("/v1/route", json=batch)).status_code == 400
        for _ in range(4):
            await http.post("/v1/chat/completions", json={"messages": messages, "model": "auto"})
    assert {sent["model"] for sent in fake.requests} == {"chats"}


async def test_models_that_embed_are_listed_as_such() -> None:
    async with serving_models() as (http, _):
        listed = (await http.get("/v1/models")).json()["data"]
        one = (await http.get(f"/v1/models/{DEFAULT_MODEL}")).json()
        ready = (await http.get("/health/ready")).json()
    kinds = {model["id"]: model["capabilities"] for model in listed}
    assert [name for name, can in kinds.items() if can == ["embeddings"]] == [
        "embeds",
        "small",
        DEFAULT_MODEL,
    ]
    assert "embeddings" not in kinds["auto"]
    assert one["owned_by"] == "router"
    small = next(model for model in listed if model["id"] == "small")
    assert small["cost_per_input_token"] == 1e-6
    assert set(ready["models"]) == {"chats", "embeds", "small"}


async def test_a_key_embeds_by_its_own_models_only() -> None:
    async with serving_models(keys={KEY: ["chats", "embeds"], OTHER: ["chats"]}) as (http, _):
        assert (await client(http, KEY).embeddings.create(model="embeds", input="a")).data
        for key, name in [(KEY, "small"), (KEY, DEFAULT_MODEL), (OTHER, "embeds")]:
            with pytest.raises(openai.NotFoundError) as error:
                await client(http, key).embeddings.create(model=name, input="a")
            assert ("there are: embeds" if key == KEY else "there are none") in str(error.value)
        seen = [model.id async for model in client(http, OTHER).models.list()]
        chat: Any = {"model": "embeds", "messages": [{"role": "user", "content": "Hi"}]}
        with pytest.raises(openai.NotFoundError):
            await client(http, OTHER).chat.completions.create(**chat)
    assert seen == ["auto", "chats"]


async def test_a_failure_is_retried_on_the_same_model() -> None:
    asked = []

    def fails_once(request: Any, body: Any) -> Response:
        asked.append(body["model"])
        if len(asked) == 1:
            return failing(503, {"Retry-After": "0"}, message="busy")(request, body)
        return openai_format(request, body)

    async with serving_models(fails_once) as (http, _):
        raw = await client(http).embeddings.with_raw_response.create(model="embeds", input="a")
    assert asked == ["embeds", "embeds"]
    assert raw.headers["x-router-attempts"] == "2"


@pytest.mark.parametrize(
    ("answer", "tries", "status", "code"),
    [
        (failing(500, message="dead"), 2, 502, "provider_error"),
        (failing(401, message="key"), 1, 502, "provider_rejected"),
        (failing(400, message="odd"), 1, 400, "invalid_request"),
        (failing(429, {"Retry-After": "900"}, message="later"), 1, 429, "rate_limit_exceeded"),
    ],
)
async def test_what_stays_wrong_is_told_after_bounded_tries(
    answer: Answer, tries: int, status: int, code: str
) -> None:
    async with serving_models(answer, retries=1) as (http, fake):
        with pytest.raises(openai.APIStatusError) as error:
            await client(http).embeddings.create(model="embeds", input="a")
    assert (error.value.status_code, error.value.code) == (status, code)
    assert len(fake.requests) == tries


@pytest.mark.parametrize("seconds", ["0.2", "0.000001"], ids=["meanwhile", "before"])
async def test_a_silent_provider_ends_at_the_requests_deadline(seconds: str) -> None:
    async with serving_models(silent) as (http, _):
        headers = {"x-request-timeout-seconds": seconds}
        with pytest.raises(openai.APIStatusError) as error:
            await client(http).embeddings.create(model="embeds", input="a", extra_headers=headers)
    assert (error.value.status_code, error.value.code) == (504, "timeout")
