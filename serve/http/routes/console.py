"""`GET /console/live` and `GET /console/tradeoff`: what the console shows."""

import asyncio

from fastapi import APIRouter, Request, Response

from serve.http.console import description
from serve.http.console.live import reply
from serve.http.console.page import check_on
from serve.http.console.paths import LIVE, TRADEOFF
from serve.http.console.tradeoff import curve
from serve.http.json_response import json_response
from serve.http.middleware.gate import authenticated
from serve.http.server import server_of

router = APIRouter()

_MOST_CURSOR = 64  # characters
_FRESH = {"cache-control": "no-store"}


@router.get(LIVE, **description.LIVE)
async def live(request: Request) -> Response:
    """What the models and the callers do now, and did in the last ten minutes; of all router
    replicas together."""
    check_on(request)
    server, caller = server_of(request), authenticated(request)
    after = request.query_params.get("after", "")[:_MOST_CURSOR]
    seen, found = await asyncio.gather(server.view.seen(), server.scrapes.cluster())
    return await asyncio.to_thread(
        lambda: json_response(reply(server, caller, seen, found, after), headers=_FRESH)
    )


@router.get(TRADEOFF, **description.TRADEOFF)
async def tradeoff(request: Request) -> Response:
    """What each quality would have cost on past queries, as predicted, and what was saved."""
    check_on(request)
    server, caller = server_of(request), authenticated(request)
    return json_response(await curve(server, caller), headers=_FRESH)
