"""`POST /v1/responses`: OpenAI's Responses API over the core."""

from fastapi import APIRouter, Request, Response

from deployments.errors import LLMError
from serve.http.answers import ask, headers_of
from serve.http.event_stream import EventStream
from serve.http.json_response import json_response
from serve.http.middleware.access_log import access_of
from serve.http.responses.description import RESPONSES
from serve.http.responses.errors import in_our_words
from serve.http.responses.events import events
from serve.http.responses.replies import response
from serve.http.responses.requests import parse

PATH = "/v1/responses"

router = APIRouter()


@router.post(PATH, **RESPONSES)
async def responses(request: Request) -> Response:
    """OpenAI's Responses API; `model` is a name, or "auto" for all models.

    Nothing is stored: each request has the whole conversation in its `input`.
    """
    try:
        asked, answer = await ask(request, parse)
        if asked.chat.stream:
            stream = events(asked, answer, access_of(request))
            return EventStream(stream, answer, headers_of(answer))
        said = response(asked, answer, await answer.whole())
    except LLMError as error:
        raise in_our_words(error) from None
    return json_response(said, headers=headers_of(answer))
