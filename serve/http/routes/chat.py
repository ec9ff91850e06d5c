"""`POST /v1/chat/completions`: OpenAI's chat completions over the core."""

from fastapi import APIRouter, Request, Response

from serve.core import Answer
from serve.dispatch.candidates import AUTO
from serve.dispatch.deadlines import within
from serve.http import openapi
from serve.http.access_log import access_of
from serve.http.deadline import deadline_of
from serve.http.gate import authenticated
from serve.http.json_response import json_response
from serve.http.replies import EventStream, completion, events
from serve.http.requests import parse
from serve.http.server import server_of

PATH = "/v1/chat/completions"

router = APIRouter()


@router.post(PATH, **openapi.CHAT)
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions; `model` is a name, or "auto" for all models.

    With "auto", `models: [names]` limits which of them may answer.
    """
    server, access = server_of(request), access_of(request)
    deadline = deadline_of(request, server.config.request_timeout)
    async with within(deadline):
        parsed = await server.bodies.read(request, parse)
    chat = parsed.chat
    if chat.model == AUTO or chat.model in server.core.models:  # else the caller made it up
        access.asked = chat.model
    answer = await server.core.answer(parsed, authenticated(request), deadline)
    access.quality, access.wanted = answer.quality, answer.wanted
    headers = _headers(answer)
    if chat.stream:
        include_usage = bool((chat.stream_options or {}).get("include_usage"))
        stream = events(answer, include_usage=include_usage, access=access)
        return EventStream(stream, answer, headers)
    whole = await answer.whole()
    if (cost := answer.cost) is not None:
        headers["x-router-cost"] = f"{cost:.9g}"
    return json_response(completion(whole, id=answer.id, model=answer.model), headers=headers)


def _headers(answer: Answer) -> dict[str, str]:
    """What a reply's headers say of the answer."""
    headers = {
        "x-router-model": answer.model,
        "x-router-strategy": answer.strategy,
        "x-router-attempts": str(answer.attempts),
    }
    if answer.reason:
        headers["x-router-reason"] = answer.reason
    return headers
