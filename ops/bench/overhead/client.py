"""A connection that asks one request after the other, as cheaply as Python can."""

import asyncio
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from ops.bench.overhead.messages import PATH


@dataclass(frozen=True)
class Response:
    """A response, read to its end."""

    status: int
    body: bytes


def request(url: str, key: str, body: bytes) -> bytes:
    """A request as it is sent."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """A connection to a server; it can be used again until a request fails or is given up."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._response: asyncio.Future[Response] | None = None

    @classmethod
    async def open(cls, url: str) -> "Connection":
        """Connects to the server at `url`.

        Raises:
            OSError: it can't be reached.
        """
        at = urlsplit(url)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, at.hostname or "", at.port or 80)
        return connection

    async def ask(self, request: bytes) -> Response:
        """Sends a request and waits for the whole response.

        Raises:
            ConnectionError: the connection was closed before the response ended.
        """
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._response

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionError("closed before the response ended"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._parts = []

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._response is not None and not self._response.done():
            response = Response(self._parser.get_status_code(), b"".join(self._parts))
            self._response.set_result(response)
