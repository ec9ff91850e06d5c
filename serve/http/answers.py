"""What every front end does with a request: it reads it, asks the core, and says who answered."""

import re
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request as HTTPRequest

from serve.answer import Answer
from serve.dispatch.candidates import AUTO
from serve.dispatch.deadlines import within
from serve.http.deadline import deadline_of
from serve.http.middleware.access_log import Asking, access_of
from serve.http.middleware.gate import authenticated
from serve.http.server import server_of
from serve.request import Request
from serve.smart.queries import query_of

Asked = TypeVar("Asked", bound=Request)
Parsed = TypeVar("Parsed")

# What a header's value can't hold; a strategy of the user's may give any text as its reason.
_NOT_IN_HEADERS = re.compile(r"[^ -~]+")


async def ask(http: HTTPRequest, parse: Callable[[bytes], Asked]) -> tuple[Asked, Answer]:
    """The request in an HTTP request's body, and the answer to it, which has begun.

    Args:
        http: the HTTP request.
        parse: from its body to the request; it raises LLMError.

    Raises:
        LLMError: the request can't be read, or not be answered.
    """
    access_of(http).asking = Asking()  # which the console also shows if it can't be read
    request, deadline = await read(http, parse)
    return request, await begin(http, request, deadline)


async def read(http: HTTPRequest, parse: Callable[[bytes], Parsed]) -> tuple[Parsed, float]:
    """What an HTTP request's body says, and by when it must have been answered, by
    `time.monotonic`.

    Raises:
        LLMError: it can't be read.
    """
    server = server_of(http)
    deadline = deadline_of(http, server.config.request_timeout)
    async with within(deadline):
        return await server.bodies.read(http, parse), deadline


async def begin(http: HTTPRequest, request: Request, deadline: float) -> Answer:
    """The answer to a request, which has begun.

    Raises:
        LLMError: it can't be answered.
    """
    server, access = server_of(http), access_of(http)
    asking = access.asking = access.asking or Asking()
    asking.id, asking.stream = request.id, request.chat.stream
    if server.core.settings.show_queries:
        asking.query = query_of(request.chat, server.core.settings.query)
    model = request.chat.model
    if model == AUTO or model in server.core.models:  # else the caller made it up
        access.asked = model
    answer = await server.core.answer(request, authenticated(http), deadline)
    asking.begun(answer)
    access.quality, access.wanted = answer.quality, answer.wanted
    return answer


def headers_of(answer: Answer) -> dict[str, str]:
    """What a reply's headers say of an answer. The cost is known once it has been read."""
    headers = {
        "x-router-model": answer.model,
        "x-router-strategy": answer.strategy,
        "x-router-attempts": str(answer.attempts),
    }
    if answer.reason:
        headers["x-router-reason"] = _NOT_IN_HEADERS.sub("?", answer.reason).strip()
    if (cost := answer.cost) is not None:
        headers["x-router-cost"] = f"{cost:.9g}"
    return headers
