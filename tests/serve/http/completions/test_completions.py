"""Promise: OpenAI's legacy completions answer like a chat with the prompt as its only message."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from scripted_models import END, Models, api_client, says

from deployments.contract import Chunk
from deployments.errors import ContextLengthExceeded, InvalidRequest, ProviderError
from serve.http.completions.requests import parse
from serve.routing.prices import Price

TOKENS = (
    {"token": "one", "logprob": -0.5, "top_logprobs": [{"token": "one", "logprob": -0.5}]},
    {"token": " two", "logprob": -1.0, "top_logprobs": [{"token": " 2", "logprob": -0.1}]},
)


@asynccontextmanager
async def client(models: Models) -> AsyncIterator[openai.AsyncOpenAI]:
    core = await models.core(prices=dict.fromkeys(models.scripts, Price(0, 0.5)))
    async with api_client(core, models) as http:
        yield openai.AsyncOpenAI(
            api_key="none", base_url="http://localhost/v1", http_client=http, max_retries=0
        )


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "prompt": "hi", **fields}).encode()


async def test_openais_client_gets_a_completion() -> None:
    models = Models(a=[says("one", " two", END)])
    async with client(models) as ask:
        raw = await ask.completions.with_raw_response.create(
            model="auto",
            prompt="Count.",
            max_tokens=9,
            temperature=0.5,
            top_p=0.9,
            stop=["."],
            seed=1,
        )
    answer = raw.parse()
    assert (answer.object, answer.model, answer.id[:5]) == ("text_completion", "a", "cmpl-")
    [choice] = answer.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, "one two", "stop")
    assert answer.usage
    assert answer.usage.total_tokens == 8
    assert raw.headers["x-router-model"] == "a"
    assert raw.headers["x-router-cost"] == "1.5"
    chat = models.asked[0][1]
    assert chat.messages == [{"role": "user", "content": "Count."}]
    limits = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["."], "seed": 1}
    assert chat.parameters() == limits


async def test_openais_client_gets_a_stream() -> None:
    models = Models(a=[says("one", Chunk(reasoning="…"), " two", END)])
    async with client(models) as ask:
        stream = await ask.completions.create(
            model="auto", prompt=["Count."], stream=True, stream_options={"include_usage": True}
        )
        *pieces, end, usage = [piece async for piece in stream]
    assert "".join(piece.choices[0].text for piece in pieces) == "one two"
    assert {piece.object for piece in (*pieces, end, usage)} == {"text_completion"}
    assert [piece.choices[0].finish_reason for piece in (*pieces, end)] == [None, None, "stop"]
    assert end.model_extra
    assert end.model_extra["router"]["model"] == "a"
    assert usage.choices == []
    assert usage.usage
    assert usage.usage.completion_tokens == 3


@pytest.mark.parametrize("pieces", [TOKENS, None], ids=["in two pieces", "in one"])
async def test_logprobs_have_this_apis_form(pieces: Any) -> None:
    chunks = [Chunk(t["token"], logprobs=(t,)) for t in pieces or ()]
    models = Models(a=[says(*(chunks or [Chunk("one two", logprobs=TOKENS)]), END)])
    async with client(models) as ask:
        whole = await ask.completions.create(model="a", prompt="Count.", logprobs=2)
        stream = await ask.completions.create(model="a", prompt="Count.", logprobs=2, stream=True)
        said = [piece.choices[0].logprobs async for piece in stream]
    assert whole.choices[0].logprobs
    assert whole.choices[0].logprobs.to_dict() == {
        "tokens": ["one", " two"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"one": -0.5}, {" 2": -0.1}],
        "text_offset": [0, 3],
    }
    assert [at for part in said if part for at in part.text_offset or ()] == [0, 3]
    assert models.asked[0][1].top_logprobs == 2


async def test_a_stream_that_breaks_off_does_not_look_finished() -> None:
    models = Models({"retries": 0}, a=[says("one", ProviderError("cut"))])
    async with client(models) as ask:
        stream = await ask.completions.create(model="a", prompt="Count.", stream=True)
        with pytest.raises(openai.APIError, match="cut"):
            _ = [piece async for piece in stream]
    async with api_client(await models.core(), models) as http:
        reply = await http.post("/v1/completions", content=body(model="a", stream=True))
    assert "[DONE]" not in reply.text
    assert 'finish_reason":"stop' not in reply.text


async def test_a_models_refusal_reaches_the_client() -> None:
    async with client(Models(a=[says(ContextLengthExceeded("too long"))])) as ask:
        with pytest.raises(openai.BadRequestError, match="too long") as error:
            await ask.completions.create(model="a", prompt="Count.")
        assert error.value.code == "context_length_exceeded"
        with pytest.raises(openai.NotFoundError):
            await ask.completions.create(model="none", prompt="Count.")


async def test_models_and_router_are_honoured() -> None:
    models = Models(a=[says("a", END)], b=[says("b", END)])
    async with client(models) as ask:
        extra = {"models": ["b"], "router": {"strategy": "sequential"}}
        answer = await ask.completions.create(model="auto", prompt="x", extra_body=extra)
    assert answer.model == answer.choices[0].text == "b"


def test_without_max_tokens_there_are_16_as_at_openai() -> None:
    assert parse(body()).chat.max_tokens == 16
    assert parse(body(max_tokens=None)).chat.max_tokens == 16


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"n": 2}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
    ],
)
def test_what_chat_models_cannot_do_is_refused_with_what_to_do(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"'{param}'.*; ") as error:
        parse(body(**fields))
    assert (error.value.code, error.value.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"n": "1"}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"router": {"strategy": "magic"}}, "router.strategy"),
    ],
)
def test_a_wrong_body_names_the_field_at_fault(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse(body(**fields))
    assert error.value.param == param


def test_values_that_ask_for_nothing_are_fine() -> None:
    parse(body(n=1, best_of=1, echo=False, suffix="", stop=[], user="u"))
