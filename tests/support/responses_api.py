"""The Responses API over scripted models: its official client, whole replies and events."""

import json
import time
from typing import Any

import httpx
import openai
from openai.types.responses import Response
from scripted_models import Models, api_client

from serve.access.keys import ANYONE
from serve.answer import Answer
from serve.http.middleware.access_log import Access
from serve.http.responses.events import events
from serve.http.responses.replies import response
from serve.http.responses.requests import ResponsesRequest, parse
from serve.routing.prices import Price

PATH = "/v1/responses"


async def http_client(models: Models) -> httpx.AsyncClient:
    """A client of the whole HTTP API, at 1 USD for each token."""
    core = await models.core(prices=dict.fromkeys(models.scripts, Price(1, 1)))
    return api_client(core, models)


async def client(models: Models) -> openai.AsyncOpenAI:
    """OpenAI's own client of it."""
    http = await http_client(models)
    return openai.AsyncOpenAI(
        base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0
    )


async def reply_of(models: Models, **fields: Any) -> dict[str, Any]:
    """The reply to a body with these fields, without HTTP, as OpenAI's own types have it."""
    request, answer = await _asked(models, fields)
    said = json.loads(json.dumps(response(request, answer, await answer.whole())))
    checked(said)
    return dict(said)


async def events_of(models: Models, **fields: Any) -> list[dict[str, Any]]:
    """The events of a streamed response, without HTTP, each of which has the name of its type."""
    request, answer = await _asked(models, {**fields, "stream": True})
    reply = events(request, answer, Access("POST", PATH))
    text = b"".join([part async for part in reply]).decode()
    read = []
    for written in text.removesuffix("\n\n").split("\n\n"):
        name, _, data = written.partition("\n")
        read.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {read[-1]['type']}"
    assert [event["sequence_number"] for event in read] == [*range(len(read))]
    return read


def checked(response: dict[str, Any]) -> Response:
    """A response that is exactly as OpenAI's own types have it."""
    return Response.model_validate(response, strict=True)


async def _asked(models: Models, fields: dict[str, Any]) -> tuple[ResponsesRequest, Answer]:
    core = await models.core(prices=dict.fromkeys(models.scripts, Price(1, 1)))
    request = parse(json.dumps({"model": "auto", "input": "Hi", **fields}).encode())
    return request, await core.answer(request, ANYONE, time.monotonic() + 60)
