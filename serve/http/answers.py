"""What every front end does with a request: it reads it, asks the core, and says who answered."""

from collections.abc import Callable

from starlette.requests import Request as HTTPRequest

from serve.core import Answer
from serve.dispatch.candidates import AUTO
from serve.dispatch.deadlines import within
from serve.http.deadline import deadline_of
from serve.http.middleware.access_log import Asking, access_of
from serve.http.middleware.gate import authenticated
from serve.http.server import server_of
from serve.request import Request
from serve.smart.queries import query_of


async def ask(http: HTTPRequest, parse: Callable[[bytes], Request]) -> tuple[Request, Answer]:
    """The request in an HTTP request's body, and the answer to it, which has begun.

    Args:
        http: the HTTP request.
        parse: from its body to the request; it raises LLMError.

    Raises:
        LLMError: the request can't be read, or not be answered.
    """
    server, access = server_of(http), access_of(http)
    asking = access.asking = Asking()
    deadline = deadline_of(http, server.config.request_timeout)
    async with within(deadline):
        request = await server.bodies.read(http, parse)
    asking.id, asking.stream = request.id, request.chat.stream
    if server.core.settings.show_queries:
        asking.query = query_of(request.chat, server.core.settings.query)
    model = request.chat.model
    if model == AUTO or model in server.core.models:  # else the caller made it up
        access.asked = model
    answer = await server.core.answer(request, authenticated(http), deadline)
    asking.begun(answer)
    access.quality, access.wanted = answer.quality, answer.wanted
    return request, answer


def headers_of(answer: Answer) -> dict[str, str]:
    """What a reply's headers say of an answer. The cost is known once it has been read."""
    headers = {
        "x-router-model": answer.model,
        "x-router-strategy": answer.strategy,
        "x-router-attempts": str(answer.attempts),
    }
    if answer.reason:
        headers["x-router-reason"] = answer.reason
    if (cost := answer.cost) is not None:
        headers["x-router-cost"] = f"{cost:.9g}"
    return headers
