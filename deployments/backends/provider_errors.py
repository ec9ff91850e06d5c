"""What the error tables of the backends share: from a library's error to one of ours."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

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
)

logger = logging.getLogger("ray.serve")

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL")
_SHORTEST_SECRET = 8
_QUOTED = 500  # characters; what a proxy on the way says may be a whole page
_WHAT_HAPPENED: Mapping[type[LLMError], str] = {
    ProviderRejected: "was refused by its provider: the operator must check its key and its name",
    RateLimited: "is at its provider's rate limit",
    DeadlineExceeded: "did not answer in time",
    RequestTooLarge: "was sent more than its provider takes",
    ContextLengthExceeded: "has a context window too small for this request",
    InvalidRequest: "can't answer this request",
    Unreachable: "can't be reached",
    ProviderError: "failed at its provider",
}
# A refusal may quote the key, if only in part; the others would tell addresses and no more.
_UNQUOTED = (ProviderRejected, Unreachable, DeadlineExceeded)


@contextmanager
def translated(translate: Callable[[Exception], LLMError | None]) -> Iterator[None]:
    """Makes every error of the code within, also around iteration, one of ours.

    `translate` gives None for an error that its table doesn't know.
    """
    try:
        yield
    except LLMError:
        raise
    except Exception as error:  # noqa: BLE001 - the table says what each one is
        ours = translate(error)
        if ours is None:
            logger.error("a backend failed: %s", type(error).__name__)
            ours = LLMError(f"the backend failed: {type(error).__name__}")
        # Without its cause: an error may quote the request's headers, our key among them.
        raise ours from None


def look_up(
    table: Mapping[type[Exception], type[LLMError]], error: Exception
) -> type[LLMError] | None:
    """The table's entry for the error's class, else for the nearest of its bases."""
    return next((table[cls] for cls in type(error).__mro__ if cls in table), None)


def explain(
    kind: type[LLMError],
    model: str,
    reason: str = "",
    *,
    secret: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> LLMError:
    """Makes an error that names our model and, where that tells no secret, the provider's reason.

    Args:
        kind: the error's class.
        model: our name of the model.
        reason: what the provider said.
        secret: what must not be quoted, beside the secrets of the environment.
        param: the request's field at fault, if the provider named one.
        headers: of the provider's response; `Retry-After` is read from them.
    """
    what = next(text for known, text in _WHAT_HAPPENED.items() if issubclass(kind, known))
    # The longest first: one may be the beginning of another.
    secrets = sorted((value for value in (secret, *_secrets()) if value), key=len, reverse=True)
    quoted = "" if kind in _UNQUOTED else _without(secrets, reason).strip()[:_QUOTED]
    if param is not None:
        param = _without(secrets, str(param))[:_QUOTED]
    message = f"model '{model}' {what}" + (f": {quoted}" if quoted else "")
    return kind(message, param=param, retry_after=_retry_after(headers or {}))


def _without(secrets: Sequence[str], said: str) -> str:
    for secret in secrets:
        said = said.replace(secret, "…")
    return said


def _secrets() -> list[str]:
    """What stands in environment variables that are called as secrets are: where none is
    configured, a provider's library takes its key from there."""
    return [
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    ]


# Whatever isn't listed is a failure of the provider's: no more statuses are the caller's fault.
_BY_STATUS: Mapping[int, type[LLMError]] = {
    400: InvalidRequest,
    401: ProviderRejected,
    402: ProviderRejected,
    403: ProviderRejected,
    404: ProviderRejected,
    405: ProviderRejected,
    408: DeadlineExceeded,
    410: ProviderRejected,
    413: RequestTooLarge,
    422: InvalidRequest,
    429: RateLimited,
    504: DeadlineExceeded,
}
# What providers call a prompt that their moderation refused.
_MODERATED = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})


def by_status(status: int, error: object = None) -> type[LLMError]:
    """The class for an HTTP status of a provider.

    Args:
        status: of the response, or the number in an error event.
        error: the `error` object of the response's body, as far as it has one.
    """
    if isinstance(error, Mapping):
        if status in (400, 403, 422) and _is_moderation(error):
            return ContentFiltered
        if status == 400 and _is_about_the_key(error):
            return ProviderRejected
    return _BY_STATUS.get(status, ProviderError)


def _is_moderation(error: Mapping[str, object]) -> bool:
    code, metadata = error.get("code"), error.get("metadata")
    # OpenRouter answers 403 and says what was flagged:
    # https://openrouter.ai/docs/api-reference/errors
    flagged = isinstance(metadata, Mapping) and "flagged_input" in metadata
    return flagged or (isinstance(code, str) and code in _MODERATED)


def _is_about_the_key(error: Mapping[str, object]) -> bool:
    # Google answers 400 to a wrong key: https://cloud.google.com/apis/design/errors#error_info
    details = error.get("details")
    return isinstance(details, list) and any(
        isinstance(detail, Mapping) and detail.get("reason") == "API_KEY_INVALID"
        for detail in details
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `Retry-After`, a number or a date: RFC 9110, section 10.2.3."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if isfinite(seconds) else None
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a time zone
        return None
