"""What can go wrong with a server's answer, and the errors of ours that it becomes."""

from collections.abc import Mapping
from typing import Any

import aiohttp

from deployments.backends.openai_requests import refusal
from deployments.backends.provider_errors import by_status, explain, look_up
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    Unreachable,
)


class NoResponse(Exception):
    """The connection failed before a response began. The cause says why."""


class NotJSON(Exception):
    """A response, or an event of it, is not JSON."""


class TooLong(Exception):
    """A body, or an event of a stream, exceeds the limit."""


class Failure(Exception):
    """What the server itself says went wrong.

    Attributes:
        status: of the response, or the number in an event of the stream; None if there is none.
        error: the `error` of the body or event, in any form.
        headers: of the response.
    """

    def __init__(
        self, said: str, status: int | None, error: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        fields = error if isinstance(error, Mapping) else {}
        super().__init__(str(fields["message"]) if "message" in fields else said)
        self.status = status
        self.error = error
        self.code = fields.get("code")
        self.param = fields.get("param")
        self.headers = headers

    @classmethod
    def in_event(cls, error: Any) -> "Failure":
        """A failure that the server reports in the middle of a stream."""
        code = error.get("code") if isinstance(error, Mapping) else None
        # vLLM gives the status as its `code`.
        return cls(str(error), code if isinstance(code, int) else None, error)


# A test fails when aiohttp has an error that is not here.
ERRORS: Mapping[type[Exception], type[LLMError]] = {
    NoResponse: Unreachable,
    NotJSON: ProviderError,
    TooLong: ProviderError,
    TimeoutError: DeadlineExceeded,
    # The connection breaks while the answer streams.
    aiohttp.ClientError: ProviderError,
}


def translate(error: Exception, model: str, *, secret: str | None) -> LLMError | None:
    """The error as one of ours; None if it is none that is expected here.

    Args:
        error: raised while a server was asked.
        model: our name of the model.
        secret: what must not be quoted.
    """
    if not isinstance(error, Failure):
        kind = look_up(ERRORS, error)
        return None if kind is None else explain(kind, model, str(error), secret=secret)
    kind = ProviderError if error.status is None else by_status(error.status, error.error)
    if kind is InvalidRequest:
        kind = refusal(error.code, error.param, str(error))
    return explain(kind, model, str(error), secret=secret, param=error.param, headers=error.headers)
