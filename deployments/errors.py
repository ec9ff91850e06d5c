"""The errors a request can end in; each knows its answer to the caller.

LLMError                          500
├── InvalidRequest                400  the caller can fix it
│   ├── UnsupportedParameter      400
│   ├── Untranslatable            400
│   ├── ContextLengthExceeded     400
│   ├── ContentFiltered           400
│   ├── RequestTimeout            408
│   ├── RequestTooLarge           413
│   └── HeadersTooLarge           431
├── Unauthenticated               401  no key, or an unknown one
├── ForbiddenOrigin               403  a remote caller of a server without keys
├── NotPermitted                  403  the caller may not do this
├── ModelNotFound                 404
├── UnknownAnswer                 404
├── RateLimited                   429  the provider's rate limit
├── QuotaExceeded                 429  the caller's key has used up its requests per minute
├── Overloaded                    429  our own queue is full
├── ProviderRejected              502  the provider rejects our key or configuration
├── ProviderError                 502  the provider failed
├── Unreachable                   503  the provider can't be reached
├── ModelUnavailable              503  no replica of ours is running
└── DeadlineExceeded              504

They cross process boundaries: each can be rebuilt from its `args`, and its attributes travel along
(`BaseException.__reduce__` carries `__dict__`).
"""

from collections.abc import Sequence


class LLMError(Exception):
    """Base of all errors of a request.

    Attributes:
        status: HTTP status of the answer.
        type: OpenAI's `error.type`.
        code: OpenAI's `error.code`, for programs to match on.
        retryable: whether another try may succeed, with the same model later or another one now.
        elsewhere: whether another model may answer, although this one never will.
        asked: whether a provider was asked; False if our own router or replica refused.
        param: the request's field at fault, if one is.
        retry_after: seconds after which a new try makes sense, if known.
        detail: more for the operator, such as a URL. It is never part of a response.
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
    """No model can answer the request as it is."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class UnsupportedParameter(InvalidRequest):
    """The request asks for something that its model or this server doesn't support.

    Attributes:
        lacking: all parameters of the request that the model doesn't support.
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
    """The request's body came too slowly."""

    status = 408
    code = "request_timeout"


class RequestTooLarge(InvalidRequest):
    """The request's body is larger than the server's limit."""

    status = 413
    code = "request_too_large"


class HeadersTooLarge(InvalidRequest):
    """The request's headers are larger than the server's limit."""

    status = 431
    code = "headers_too_large"


class Unauthenticated(LLMError):
    """The request has no key, or an unknown one."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class ForbiddenOrigin(LLMError):
    """A server without keys was called by a name that isn't this machine's."""

    status = 403
    type = "invalid_request_error"
    code = "forbidden_origin"


class NotPermitted(LLMError):
    """The caller may not do this; another key may."""

    status = 403
    type = "invalid_request_error"
    code = "not_permitted"


class ModelNotFound(LLMError):
    """No model of that name is configured."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class UnknownAnswer(LLMError):
    """No answer with that id is known."""

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
    """The caller's key has reached its requests per minute."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Overloaded(LLMError):
    """One of our own queues is full."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"
    retryable = True
    asked = False


class ProviderRejected(LLMError):
    """The provider rejected our credentials or our model's name, which the operator must fix."""

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
