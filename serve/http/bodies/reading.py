"""Reading a request's body within limits, without holding up other requests."""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from deployments.errors import RequestTimeout, RequestTooLarge
from deployments.limits import Limit
from serve.config import ServerConfig

Parsed = TypeVar("Parsed")

# Bytes. Schemas are what takes long: up to a second for a few thousand characters.
_LONG, _VERY_LONG = 2**12, 2**16


class Bodies:
    """Reads and parses bodies, within the server's limits."""

    def __init__(self, config: ServerConfig) -> None:
        self._most_bytes = config.max_body_bytes
        self._seconds = config.body_timeout
        self._very_long = asyncio.Lock()

    async def read(self, request: Request, parse: Callable[[bytes], Parsed]) -> Parsed:
        """The request's body, parsed.

        Raises:
            RequestTooLarge: it is too long.
            RequestTimeout: it didn't arrive in time.
        """
        body = await self._bytes(request)
        if len(body) < _LONG:
            return parse(body)
        # Long bodies are parsed in a thread, so that the event loop can serve other streams; very
        # long ones one at a time, so that they don't take all threads from shorter ones.
        async with self._very_long if len(body) > _VERY_LONG else nullcontext():
            return await asyncio.to_thread(parse, body)

    async def _bytes(self, request: Request) -> bytes:
        parts, size, more = [], 0, True
        try:
            with Limit(time.monotonic() + self._seconds):
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    part, more = message.get("body", b""), message.get("more_body", False)
                    parts.append(part)
                    size += len(part)
                    if size > self._most_bytes:
                        raise RequestTooLarge(f"the body is over {self._most_bytes} bytes")
        except TimeoutError:
            raise RequestTimeout(f"the body did not arrive within {self._seconds:g} s") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)
