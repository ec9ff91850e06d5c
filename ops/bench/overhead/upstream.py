"""The upstream behind every contestant: an OpenAI-compatible server that is never the limit.

    python -m ops.bench.overhead.upstream --port PORT

Its answers are bytes made beforehand. Each event of a stream is a chunk of HTTP of its own, and
concurrent streams take turns, as those of an engine do.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import cast

import httptools
import httpx
import uvloop

from ops.bench.overhead.messages import PATH, asked, events, whole
from ops.ports import free_port

_START_S = 30.0
_MODELS = b'{"object":"list","data":[{"id":"bench","object":"model","max_model_len":8192}]}'


class Server(asyncio.Protocol):
    """One connection to the upstream; its requests come one after the other."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body = b""
        self._answer: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._path != PATH.encode():
            self._transport.write(_response(_MODELS))
            return
        ask = asked(self._body)
        if ask.stream or ask.delay_s:
            parts = _stream(ask.tokens) if ask.stream else (_whole(ask.tokens),)
            self._answer = asyncio.get_running_loop().create_task(self._send(parts, ask.delay_s))
        else:
            self._transport.write(_whole(ask.tokens))

    async def _send(self, parts: tuple[bytes, ...], delay_s: float) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        for part in parts:
            self._transport.write(part)
            await asyncio.sleep(0)


@cache
def _whole(tokens: int) -> bytes:
    return _response(whole(tokens))


@cache
def _stream(tokens: int) -> tuple[bytes, ...]:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    first, *others = (b"%x\r\n%b\r\n" % (len(event), event) for event in events(tokens))
    return head + first, *others, b"0\r\n\r\n"


def _response(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


async def serve(port: int) -> None:
    """Serves until the task is cancelled."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


@contextmanager
def serving() -> Iterator["tuple[str, subprocess.Popen[bytes]]"]:
    """Runs the upstream in a process of its own; yields its URL and the process."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.bench.overhead.upstream", "--port", str(port)]
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url, process
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            httpx.get(f"{url}/v1/models", trust_env=False)
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main() -> None:
    """`python -m ops.bench.overhead.upstream`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
