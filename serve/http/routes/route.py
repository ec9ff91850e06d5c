"""`POST /v1/route`: routes a batch of queries without calling a model."""

import asyncio
from functools import partial

from fastapi import APIRouter, Request, Response

from serve.http import openapi
from serve.http.batches import Batch, check_capacities, reply
from serve.http.bodies.fields import parse_as
from serve.http.deadline import deadline_of
from serve.http.json_response import json_response
from serve.http.middleware.gate import authenticated
from serve.http.previews import as_chat, chat_of
from serve.http.server import server_of
from serve.routing.strategy import decide_batch

router = APIRouter()


@router.post("/v1/route", **openapi.ROUTE)
async def route(request: Request) -> Response:
    """Routes a batch of queries without calling a model, and says why. With `"as": "chat"`, says
    what a chat with the one query would do now."""
    server, caller = server_of(request), authenticated(request)
    core = server.core
    batch = await server.bodies.read(request, partial(parse_as, Batch))
    if batch.as_ == "chat":
        deadline = deadline_of(request, server.config.request_timeout)
        return json_response(as_chat(await core.preview(chat_of(batch), caller, deadline)))
    strategy = core.strategy_for_batch(batch.router.strategy, batch.options)
    check_capacities(batch, caller.allowed(core.models))
    available = await core.available(batch.sets(), caller)
    question = batch.question(available, core.settings.performance_requirement)
    routes = await decide_batch(strategy, question)
    return json_response(await asyncio.to_thread(reply, question, routes))
