"""The errors a request can end in; each knows its answer to the caller.

LLMError                          500
├── InvalidRequest                400  the caller can mend it
│   ├── UnsupportedParameter      400
│   ├── Untranslatable            400
│   ├── ContextLengthExceeded     400
│   ├── ContentFiltered           400
│   ├── RequestTimeout            408
│   ├── RequestTooLarge           413
│   └── HeadersTooLarge           431
├── Unauthenticated               401  no key, or none that is known
├── ForbiddenOrigin               403  called from elsewhere, where no key is asked for
├── ModelNotFound                 404
├── UnknownAnswer                 404
├── RateLimited                   429  the provider says: later
├── QuotaExceeded                 429  the caller's key has had its requests for now
├── Overloaded                    429  our own queue is full
├── ProviderRejected              502  our key or our config is wrong there
├── ProviderError                 502  the provider failed
├── Unreachable                   503  the provider can't be reached
├── ModelUnavailable              503  no replica of ours is running
└── DeadlineExceeded              504

They cross process boundaries: `args` rebuilds each, and what is set as an attribute travels along
(`BaseException.__reduce__` carries `__dict__`).
"""

from collections.abc import Sequence


class LLMError(Exception):
    """Base of all errors of a request.

    Attributes:
        status: HTTP status of the answer.
        type: OpenAI's `error.type`.
        code: OpenAI's `error.code`, for programs to match on.
        retryable: whether another try may answer: the same model later, or another one now.
        elsewhere: whether another model may answer although a retry here makes no sense.
        asked: whether a provider was asked; False where our own router or replica refuses.
        param: the request's field at fault, if one is.
        retry_after: seconds after which a new try makes sense, if known.
        detail: more for the operator, such as a URL. It is never shown in the answer to a request.
    """

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    retryable: bool = False
    elsewhere: bool = False
    asked: bool = True
    detail: str = ""

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after

    @property
    def message(self) -> str:
        """What went wrong, and what to do."""
        return str(self.args[0])

    def __str__(self) -> str:
        return self.message


class InvalidRequest(LLMError):
    """The request can't be answered by anyone as it is."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class UnsupportedParameter(InvalidRequest):
    """The request asks for something that its model or this server doesn't do.

    Attributes:
        lacking: all parameters of the request that the model doesn't support, where it is that.
    """

    code = "unsupported_parameter"
    elsewhere = True
    asked = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        lacking: Sequence[str] = (),
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.lacking = tuple(lacking)


class Untranslatable(InvalidRequest):
    """The request can't be written in the format of its model's provider, so it was not sent."""

    elsewhere = True
    asked = False


class ContextLengthExceeded(InvalidRequest):
    """Prompt and answer don't fit into the model's context window."""

    code = "context_length_exceeded"
    elsewhere = True


class ContentFiltered(InvalidRequest):
    """The provider's content policy refused the prompt."""

    code = "content_filter"


class RequestTimeout(InvalidRequest):
    """The body came too slowly."""

    status = 408
    code = "request_timeout"


class RequestTooLarge(InvalidRequest):
    """The body is over the server's limit."""

    status = 413
    code = "request_too_large"


class HeadersTooLarge(InvalidRequest):
    """The headers are over the server's limit."""

    status = 431
    code = "headers_too_large"


class Unauthenticated(LLMError):
    """The request brings no key, or one that isn't known."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ForbiddenOrigin(LLMError):
    """A server that asks for no key is called by another name than this machine's."""

    status = 403
    type = "invalid_request_error"
    code = "forbidden_origin"


class ModelNotFound(LLMError):
    """No model of that name is configured."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class UnknownAnswer(LLMError):
    """No answer of that id is known."""

    status = 404
    type = "invalid_request_error"
    code = "answer_not_found"


class RateLimited(LLMError):
    """The provider's rate limit is reached."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True


class QuotaExceeded(LLMError):
    """The caller's key has made as many requests as it may in a minute."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Overloaded(LLMError):
    """A queue of ours is full."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"
    retryable = True
    asked = False


class ProviderRejected(LLMError):
    """The provider refused our credentials or doesn't know our model: the operator must mend it."""

    status = 502
    type = "provider_error"
    code = "provider_rejected"
    retryable = True


class ProviderError(LLMError):
    """The provider failed while answering."""

    status = 502
    type = "provider_error"
    code = "provider_error"
    retryable = True


class Unreachable(LLMError):
    """No connection to the provider."""

    status = 503
    type = "provider_error"
    code = "provider_unreachable"
    retryable = True


class ModelUnavailable(LLMError):
    """None of the models that may answer has a running replica."""

    status = 503
    type = "server_error"
    code = "model_unavailable"
    retryable = True


class DeadlineExceeded(LLMError):
    """No answer in time."""

    status = 504
    type = "timeout_error"
    code = "timeout"
    retryable = True
