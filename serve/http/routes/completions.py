"""`POST /v1/completions`: OpenAI's legacy completions over the core."""

from fastapi import APIRouter, Request, Response

from serve.http.answers import ask, headers_of
from serve.http.completions.description import COMPLETIONS
from serve.http.completions.replies import completion, events
from serve.http.completions.requests import parse
from serve.http.event_stream import EventStream
from serve.http.json_response import json_response
from serve.http.middleware.access_log import access_of

PATH = "/v1/completions"

router = APIRouter()


@router.post(PATH, **COMPLETIONS)
async def completions(request: Request) -> Response:
    """OpenAI's legacy completions, for clients that know no chat: the prompt becomes the user's
    message."""
    asked, answer = await ask(request, parse)
    if asked.chat.stream:
        options = asked.chat.stream_options or {}
        include_usage = bool(options.get("include_usage"))
        stream = events(answer, include_usage=include_usage, access=access_of(request))
        return EventStream(stream, answer, headers_of(answer))
    whole = await answer.whole()
    said = completion(whole, id=answer.id, model=answer.model)
    return json_response(said, headers=headers_of(answer))
