"""Promise: when a client disconnects from a stream, the model stops generating."""

import asyncio
import gc
import time
from typing import Any

import pytest
from scripted_models import END, STREAMED, Models, says

from serve.access.keys import ANYONE
from serve.http.chat.replies import events
from serve.http.event_stream import EventStream
from serve.http.middleware.access_log import Access
from serve.request import Request

SCOPE = {"type": "http", "asgi": {"spec_version": "2.4"}}


@pytest.mark.parametrize("blocked", ["http.response.start", "http.response.body"])
async def test_a_response_that_is_cancelled_stops_the_model(blocked: str) -> None:
    """Either before it begins, or while it waits for the client to read."""
    models = Models(a=[says("one ", "two ", END)])
    core = await models.core()
    answer = await core.answer(Request(STREAMED), ANYONE, time.monotonic() + 60)
    reply = events(answer, include_usage=False, access=Access("POST", "/"))
    gc.disable()  # a collection would close what nothing refers to
    try:
        sending = asyncio.create_task(EventStream(reply, answer)(SCOPE, _never, _block_at(blocked)))
        await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.wait([sending])
        assert models.responses[-1].left
    finally:
        gc.enable()


async def _never() -> Any:
    await asyncio.sleep(60)


def _block_at(kind: str) -> Any:
    async def send(message: Any) -> None:
        if message["type"] == kind:
            await asyncio.sleep(60)

    return send
