"""Sends one request to the application and records all that its caller sees."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

PATH = "/v1/chat/completions"


@dataclass
class Reply:
    """A response: an answer, whole or streamed, or an error.

    Attributes:
        status: the HTTP status.
        headers: the HTTP headers.
        seconds: from the request to the end of the response.
        ids: the distinct ids in it; an answer has one.
        roles: every role in it.
        models: the model that each chunk names.
        text: the content.
        arguments: the arguments of the tool call.
        reasons: every finish reason in it.
        usage: the tokens that are billed.
        router: the `router` object of a stream's last chunk: attempts, cost and so on.
        error: OpenAI's error object, wherever it appears.
        done: whether the stream ended with `[DONE]`.
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
        """Whether it is a stream of events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def is_answer(self) -> bool:
        """Whether it is one complete, well-formed answer."""
        return (
            self.status == 200
            and self.error is None
            and len(self.ids) == len(self.roles) == len(self.reasons) == 1
            and self.done == self.is_stream
        )

    @property
    def is_error(self) -> bool:
        """Whether it is an error that can't be mistaken for an answer."""
        return self.error is not None and not self.reasons and not self.done

    @property
    def model(self) -> str:
        """The model that gave the answer, or the end of it."""
        return self.models[-1] if self.models else ""

    @property
    def code(self) -> str | None:
        """The error's code."""
        return None if self.error is None else self.error.get("code")

    @property
    def attempts(self) -> int:
        """The number of attempts, as reported to the caller."""
        reported = self.router.get("attempts", self.headers.get("x-router-attempts"))
        return int(reported or 0)

    @property
    def cost(self) -> float | None:
        """The cost in USD, as reported to the caller."""
        reported = self.router.get("cost", self.headers.get("x-router-cost"))
        return None if reported is None else float(reported)

    @property
    def rescued(self) -> Sequence[Mapping[str, Any]]:
        """The attempts that were cut off and then rescued, as reported to the caller."""
        rescued: Sequence[Mapping[str, Any]] = self.router.get("rescued", ())
        return rescued


async def ask(
    client: httpx.AsyncClient, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Reply:
    """Sends a request and reads the whole response.

    Raises:
        httpx.HTTPError: the connection failed.
        ValueError: the response is not in OpenAI's format.
    """
    began = time.monotonic()
    async with client.stream("POST", PATH, json=body, headers=headers) as response:
        reply = Reply(response.status_code, response.headers)
        if reply.is_stream:
            async for line in response.aiter_lines():
                _read_event(reply, line)
        else:
            _read(reply, json.loads(await response.aread()), "message")
    reply.seconds = time.monotonic() - began
    return reply


def _read_event(reply: Reply, line: str) -> None:
    if not line:
        return
    if reply.done or reply.error:
        raise ValueError(f"event after the end of the stream: {line}")
    data = line.removeprefix("data: ")
    if data == "[DONE]":
        reply.done = True
    else:
        _read(reply, json.loads(data), "delta")


def _read(reply: Reply, data: Mapping[str, Any], key: str) -> None:
    """Adds a chunk (`key` is "delta") or a whole answer ("message")."""
    if "error" in data:
        reply.error = data["error"]
        return
    reply.ids.add(data["id"])
    reply.models.append(data["model"])
    reply.usage = data.get("usage") or reply.usage
    reply.router = data.get("router", reply.router)
    for choice in data["choices"]:
        piece = choice[key]
        reply.text += piece.get("content") or ""
        for call in piece.get("tool_calls") or ():
            reply.arguments += call["function"]["arguments"]
        if role := piece.get("role"):
            reply.roles.append(role)
        if reason := choice["finish_reason"]:
            reply.reasons.append(reason)
