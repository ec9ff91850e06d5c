"""What LiteLLM's errors, and those of the libraries beneath it, are in terms of ours.

LiteLLM guesses its own classes from an error's text, in which a caller may have put any word. So
the status that the provider gave counts for more.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx
import openai
from litellm import exceptions
from litellm.litellm_core_utils import url_utils
from litellm.llms.openai.common_utils import OpenAIError

from deployments.backends.litellm.patches import says_too_long
from deployments.backends.provider_errors import by_status, look_up
from deployments.causes import causes
from deployments.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    RequestTooLarge,
    Unreachable,
    UnsupportedParameter,
)

# A test fails when LiteLLM has an error that is not here.
ERRORS: Mapping[type[Exception], type[LLMError]] = {
    exceptions.AuthenticationError: ProviderRejected,
    exceptions.PermissionDeniedError: ProviderRejected,
    exceptions.PaymentRequiredError: ProviderRejected,
    exceptions.NotFoundError: ProviderRejected,
    exceptions.LiteLLMUnknownProvider: ProviderRejected,
    exceptions.ModelNotMappedError: ProviderRejected,
    exceptions.BudgetExceededError: ProviderRejected,
    exceptions.RateLimitError: RateLimited,
    exceptions.ContextWindowExceededError: ContextLengthExceeded,
    exceptions.ContentPolicyViolationError: ContentFiltered,
    exceptions.RejectedRequestError: ContentFiltered,
    exceptions.GuardrailRaisedException: ContentFiltered,
    exceptions.BlockedPiiEntityError: ContentFiltered,
    exceptions.ModifyResponseException: ContentFiltered,
    exceptions.SensitiveDataRouteException: ContentFiltered,
    exceptions.UnsupportedParamsError: UnsupportedParameter,
    exceptions.BadRequestError: InvalidRequest,
    exceptions.InvalidRequestError: InvalidRequest,
    exceptions.ImageFetchError: UnsupportedParameter,
    exceptions.VectorStoreSearchError: InvalidRequest,
    exceptions.UnprocessableEntityError: InvalidRequest,
    exceptions.Timeout: DeadlineExceeded,
    exceptions.APIConnectionError: ProviderError,
    exceptions.ServiceUnavailableError: ProviderError,
    exceptions.BadGatewayError: ProviderError,
    exceptions.InternalServerError: ProviderError,
    exceptions.MidStreamFallbackError: ProviderError,
    exceptions.APIResponseValidationError: ProviderError,
    exceptions.JSONSchemaValidationError: ProviderError,
    exceptions.APIError: ProviderError,
    exceptions.MockException: ProviderError,
    exceptions.OpenAIError: ProviderError,
    TimeoutError: DeadlineExceeded,
    # LiteLLM's own code on what it didn't expect of a provider.
    ValueError: ProviderError,
}

# What LiteLLM wraps in errors of its own, most often in `InternalServerError`.
_UNREACHABLE = (httpx.ConnectError, aiohttp.ClientConnectorError, openai.APIConnectionError)
_TIMEOUTS = (httpx.TimeoutException, openai.APITimeoutError, TimeoutError)
_NOT_FETCHED = (exceptions.ImageFetchError, url_utils.SSRFError)


def kind_of(error: Exception) -> type[LLMError] | None:
    """Our class for an error once the request was sent, or for one that the operator must fix;
    None for one that is not in the table."""
    kind = look_up(ERRORS, error)
    status = status_of(error)
    if status is not None:
        return _kind_by_status(status, kind, error)
    for cause in causes(error):
        if isinstance(cause, _TIMEOUTS):
            return DeadlineExceeded
        if isinstance(cause, _UNREACHABLE) and not _is_litellms(cause):
            return Unreachable
    for cause in causes(error):
        if isinstance(cause, OpenAIError):
            # An error event in a stream that LiteLLM reads itself: its status is the event's code.
            return by_status(cause.status_code, _said(error))
    # Without a status, no provider has said that the request is bad.
    return ProviderError if kind is not None and issubclass(kind, InvalidRequest) else kind


def _kind_by_status(status: int, kind: type[LLMError] | None, error: Exception) -> type[LLMError]:
    by = by_status(status, _said(error))
    if by in (InvalidRequest, RequestTooLarge):
        if kind is ContextLengthExceeded or _is_too_long(error):
            return ContextLengthExceeded
        if kind is ContentFiltered:
            return ContentFiltered
    return by


def status_of(error: Exception) -> int | None:
    """The status that the provider gave, as its response or within the stream."""
    for cause in causes(error):
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code
        if isinstance(cause, openai.APIStatusError) and not _is_litellms(cause):
            return cause.status_code
        if type(cause) is openai.APIError and isinstance(cause.code, int):
            return cause.code  # an error event in the stream of a vLLM server
    return None


def _is_litellms(error: BaseException) -> bool:
    """Whether it is one of LiteLLM's own errors, which derive from the OpenAI client's."""
    return type(error).__module__.partition(".")[0] == "litellm"


def is_image_not_fetched(error: Exception) -> bool:
    """Whether LiteLLM would have had to fetch an image, which is forbidden here."""
    return any(isinstance(cause, _NOT_FETCHED) for cause in causes(error))


def missing_module(error: Exception) -> ImportError | None:
    """The failed import of a library that `provider_libraries` doesn't list."""
    return next((cause for cause in causes(error) if isinstance(cause, ImportError)), None)


def _is_too_long(error: Exception) -> bool:
    # Where LiteLLM doesn't keep a provider's answer as JSON, only its text is left.
    code = "context_length_exceeded"
    return (
        getattr(error, "code", None) == code
        or code in str(error)
        or says_too_long(reason_of(error))
    )


def reason_of(error: Exception) -> str:
    """What the provider said, without what LiteLLM wraps around it."""
    said = _said(error)
    return str(said["message"]) if said and "message" in said else _message(error)


def _said(error: Exception) -> Mapping[str, Any] | None:
    """The `error` object of the provider's answer, if that is JSON of OpenAI's or Google's form."""
    for cause in causes(error):
        if isinstance(body := getattr(cause, "body", None), dict):
            return body
    try:
        said = json.loads(_message(error))
        said = (said[0] if isinstance(said, list) else said)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _message(error: Exception) -> str:
    message = str(getattr(error, "message", error))
    message = message.partition("Traceback (most recent call last)")[0].strip()
    message = re.sub(r"^((litellm\.)?\w+(Error|Exception)( - |: | ))+", "", message)
    return re.sub(r"^b'(.*)'$", r"\1", message).replace("\\'", "'")  # as Python prints bytes


def headers_of(error: Exception) -> Mapping[str, str] | None:
    """The headers of the provider's response, if there was one."""
    response = getattr(error, "response", None)
    headers = getattr(error, "litellm_response_headers", None)
    return headers or getattr(response, "headers", None)
