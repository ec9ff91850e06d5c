"""`POST /v1/embeddings`: OpenAI's embeddings."""

import asyncio

from fastapi import APIRouter, Request, Response

from serve.dispatch.deadlines import within
from serve.http.deadline import deadline_of
from serve.http.embeddings.description import EMBEDDINGS
from serve.http.embeddings.replies import embedding_list, headers_of
from serve.http.embeddings.requests import parse
from serve.http.json_response import json_response
from serve.http.middleware.access_log import access_of
from serve.http.middleware.gate import authenticated
from serve.http.server import server_of

PATH = "/v1/embeddings"

router = APIRouter()


@router.post(PATH, **EMBEDDINGS)
async def embeddings(request: Request) -> Response:
    """OpenAI's embeddings, by the router's own embedder or a model with `task: embedding`."""
    server, caller = server_of(request), authenticated(request)
    embedding = server.embedding
    deadline = deadline_of(request, server.config.request_timeout)
    async with within(deadline):
        asked, encoding_format = await server.bodies.read(request, parse)
    if asked.model in embedding.names(caller):  # else the caller made it up
        access_of(request).asked = asked.model
    embedded = await embedding.embed(asked, caller, deadline)
    # In a thread, since there may be millions of numbers.
    said = await asyncio.to_thread(embedding_list, embedded, encoding_format)
    return await asyncio.to_thread(json_response, said, headers=headers_of(embedded))
