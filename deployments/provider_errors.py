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


def by_status(status: int) -> type[LLMError]:
    """The class for an HTTP status of a provider."""
    if status in (401, 402, 403, 404, 405):
        return ProviderRejected
    if status == 408:
        return DeadlineExceeded
    if status == 413:
        return RequestTooLarge
    if status == 429:
        return RateLimited
    return InvalidRequest if 400 <= status < 500 and status != 409 else ProviderError


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
