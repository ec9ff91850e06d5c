"""One request to the application, and what its caller sees of the answer."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

PATH = "/v1/chat/completions"


@dataclass
class Reply:
    """An answer, whole or streamed, or an error.

    Attributes:
        status: of the response.
        headers: of the response.
        seconds: from the request to the response's end.
        ids: every id that the answer had.
        roles: as often as one was given.
        models: that were named, by each chunk.
        text: of the answer.
        arguments: of its tool call.
        reasons: every finish reason that was given.
        usage: what is billed.
        router: what a stream's last chunk says of how the answer came about.
        error: OpenAI's error object, wherever it stood.
        done: whether a stream ended with `[DONE]`.
    """

    status: int
    headers: Mapping[str, str]
    seconds: float = 0.0
    ids: set[str] = field(default_factory=set)
    roles: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    text: str = ""
    arguments: str = ""
    reasons: list[str] = field(default_factory=list)
    usage: Mapping[str, int] | None = None
    router: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    done: bool = False

    @property
    def is_stream(self) -> bool:
        """Whether it came in events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def is_answer(self) -> bool:
        """Whether it is one finished answer, and looks like one."""
        return (
            self.status == 200
            and self.error is None
            and len(self.ids) == len(self.roles) == len(self.reasons) == 1
            and self.done == self.is_stream
        )

    @property
    def is_error(self) -> bool:
        """Whether it is an error, and can't be taken for an answer."""
        return self.error is not None and not self.reasons and not self.done

    @property
    def model(self) -> str:
        """That answered, or ended the answer."""
        return self.models[-1] if self.models else ""

    @property
    def code(self) -> str | None:
        """The error's, if it is one."""
        return None if self.error is None else self.error.get("code")

    @property
    def attempts(self) -> int:
        """How often a model was asked, as the caller is told."""
        said = self.router.get("attempts", self.headers.get("x-router-attempts"))
        return int(said or 0)

    @property
    def cost(self) -> float | None:
        """USD, as the caller is told."""
        said = self.router.get("cost", self.headers.get("x-router-cost"))
        return None if said is None else float(said)

    @property
    def rescued(self) -> Sequence[Mapping[str, Any]]:
        """What broke off before, as the caller is told."""
        rescued: Sequence[Mapping[str, Any]] = self.router.get("rescued", ())
        return rescued


async def ask(
    client: httpx.AsyncClient, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Reply:
    """Sends a request and reads all that comes back.

    Raises:
        httpx.HTTPError: the connection fails.
        ValueError: what comes back is not in OpenAI's format.
    """
    began = time.monotonic()
    async with client.stream("POST", PATH, json=body, headers=headers) as response:
        reply = Reply(response.status_code, response.headers)
        if reply.is_stream:
            async for line in response.aiter_lines():
                _add(reply, line)
        else:
            _read(reply, await response.aread())
    reply.seconds = time.monotonic() - began
    return reply


def _add(reply: Reply, line: str) -> None:
    if not line:
        return
    if reply.done or reply.error:
        raise ValueError(f"after the end of the stream: {line}")
    data = line.removeprefix("data: ")
    if data == "[DONE]":
        reply.done = True
    else:
        _take(reply, json.loads(data), "delta")


def _read(reply: Reply, content: bytes) -> None:
    _take(reply, json.loads(content), "message")


def _take(reply: Reply, data: Mapping[str, Any], said: str) -> None:
    """Adds what a chunk, or a whole answer, says."""
    if "error" in data:
        reply.error = data["error"]
        return
    reply.ids.add(data["id"])
    reply.models.append(data["model"])
    reply.usage = data.get("usage") or reply.usage
    reply.router = data.get("router", reply.router)
    for choice in data["choices"]:
        piece = choice[said]
        reply.text += piece.get("content") or ""
        for call in piece.get("tool_calls") or ():
            reply.arguments += call["function"]["arguments"]
        if role := piece.get("role"):
            reply.roles.append(role)
        if reason := choice["finish_reason"]:
            reply.reasons.append(reason)
