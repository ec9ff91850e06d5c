"""Anthropic's own client for an application in this process."""

from typing import Any

import anthropic
import httpx
import httpx2
from scripted_models import Models, api_client


class _Into(httpx2.AsyncBaseTransport):
    """Sends the requests of Anthropic's client, which has an HTTP library of its own, through a
    client of the application."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        reply = await self._client.request(
            request.method, str(request.url), headers=dict(request.headers), content=body
        )
        return httpx2.Response(
            reply.status_code, headers=dict(reply.headers), content=reply.content, request=request
        )


async def anthropic_client(models: Models, **config: Any) -> anthropic.AsyncAnthropic:
    """The client of an API over these models; it doesn't retry."""
    into = _Into(api_client(await models.core(), models, **config))
    return anthropic.AsyncAnthropic(
        base_url="http://localhost",
        api_key="sk-test",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=into),
    )
