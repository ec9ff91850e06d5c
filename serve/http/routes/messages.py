"""`POST /v1/messages` and `…/count_tokens`: Anthropic's Messages API over the core."""

from fastapi import APIRouter, Request, Response

from serve.dispatch.candidates import candidates
from serve.http.answers import ask, headers_of
from serve.http.event_stream import EventStream
from serve.http.json_response import json_response
from serve.http.messages import description
from serve.http.messages.counting import input_tokens
from serve.http.messages.errors import PATHS, id_header
from serve.http.messages.events import events
from serve.http.messages.replies import message
from serve.http.messages.requests import parse, parse_prompt
from serve.http.middleware.access_log import access_of
from serve.http.middleware.gate import authenticated
from serve.http.scopes import request_id_of
from serve.http.server import server_of

PATH, COUNT_PATH = PATHS

router = APIRouter()


@router.post(PATH, **description.MESSAGES)
async def messages(request: Request) -> Response:
    """Anthropic's Messages API; `model` is a name, or "auto" for all models.

    With "auto", `models: [names]` limits which of them may answer.
    """
    asked, answer = await ask(request, parse)
    id = id_header(request.scope)
    if asked.chat.stream:
        stream = events(
            answer,
            input_tokens=input_tokens(asked.chat),
            request_id=request_id_of(request.scope),
            access=access_of(request),
        )
        return EventStream(stream, answer, {**headers_of(answer), **id})
    said = await message(answer)
    return json_response(said, headers={**headers_of(answer), **id})


@router.post(COUNT_PATH, **description.COUNT)
async def count_tokens(request: Request) -> Response:
    """About how many tokens a request to `/v1/messages` has; no model is asked."""
    server = server_of(request)
    asked = await server.bodies.read(request, parse_prompt)
    candidates(
        asked.chat.model, asked.wishes.models, authenticated(request).allowed(server.core.models)
    )
    counted = {"input_tokens": input_tokens(asked.chat)}
    return json_response(counted, headers=id_header(request.scope))
