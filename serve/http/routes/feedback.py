"""`POST /v1/feedback`: scores for answers."""

from functools import partial

from fastapi import APIRouter, Request, Response

from deployments.errors import UnknownAnswer
from serve.http import openapi
from serve.http.bodies.fields import parse_as
from serve.http.json_response import json_response
from serve.http.schemas import Feedback
from serve.http.server import server_of

router = APIRouter()


@router.post("/v1/feedback", **openapi.FEEDBACK)
async def feedback(request: Request) -> Response:
    """Scores an answer: `{"id": "chatcmpl-…", "score": 0 to 1}`."""
    server = server_of(request)
    given = await server.bodies.read(request, partial(parse_as, Feedback))
    if not await server.core.smart.feedback(given.id, given.score):
        raise UnknownAnswer(
            f"no answer '{given.id}' is known: it never existed, had no text to learn from, or is "
            "older than the store keeps",
            param="id",
        )
    return json_response({"object": "feedback", "id": given.id, "score": given.score})
