"""`POST /v1/feedback`: scores for answers."""

from functools import partial

from fastapi import APIRouter, Request, Response

from deployments.errors import UnknownAnswer
from serve.http import openapi
from serve.http.bodies.fields import parse_as
from serve.http.json_response import json_response
from serve.http.middleware.gate import authenticated
from serve.http.schemas import Feedback
from serve.http.server import server_of

router = APIRouter()


@router.post("/v1/feedback", **openapi.FEEDBACK)
async def feedback(request: Request) -> Response:
    """Scores an answer: `{"id": "chatcmpl-…", "score": 0 to 1}`. Only the key that asked may."""
    server, caller = server_of(request), authenticated(request)
    given = await server.bodies.read(request, partial(parse_as, Feedback))
    counted = await server.core.smart.feedback(
        given.id, given.score, caller.name, bounded=not caller.trusted
    )
    if counted is None:
        raise UnknownAnswer(
            f"no answer '{given.id}' to this caller is known: it never existed, was for another "
            "key, had no text to learn from, or is older than the store keeps",
            param="id",
        )
    reply = {"object": "feedback", "id": given.id, "score": given.score, "counted": counted}
    return json_response(reply)
