"""Translates the errors of providers' libraries into ours: what all backends' tables share."""

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
_ELSEWHERE = "retry later or use another model"
# What happened, and what to do about it. The first that fits is taken.
_EXPLANATIONS: Mapping[type[LLMError], tuple[str, str]] = {
    ProviderRejected: (
        "was rejected by its provider",
        "the server's operator must check the API key, the account and the model's name there",
    ),
    RateLimited: ("has reached its provider's rate limit", _ELSEWHERE),
    DeadlineExceeded: ("did not answer in time", _ELSEWHERE),
    RequestTooLarge: ("does not accept requests of this size", "shorten the request"),
    ContextLengthExceeded: (
        "has a context window too small for this request",
        "shorten the messages, lower the limit of output tokens or use another model",
    ),
    ContentFiltered: ("rejected this request under its content policy", "rephrase the request"),
    InvalidRequest: ("can't answer this request", ""),
    Unreachable: ("can't be reached", _ELSEWHERE),
    ProviderError: ("failed at its provider", _ELSEWHERE),
}
# A rejection may quote the key, if only in part; the others would only reveal internal addresses.
_UNQUOTED = (ProviderRejected, Unreachable, DeadlineExceeded)


@contextmanager
def translated(translate: Callable[[Exception], LLMError | None]) -> Iterator[None]:
    """Raises every error of the block, also while it iterates, as one of ours.

    `translate` returns None for an error that is not in its table.
    """
    try:
        yield
    except LLMError:
        raise
    except Exception as error:  # noqa: BLE001 - the table says what each one is
        ours = translate(error)
        if ours is None:
            name = type(error).__name__
            logger.error("a backend raised an unexpected %s", name)
            ours = LLMError(f"the model's backend failed unexpectedly ({name}); retry later")
        # Without the cause: an error may quote the request's headers, our key among them.
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
    """Makes an error that names our model, what to do and, unless it may hold a secret, the
    provider's reason.

    Args:
        kind: the error's class.
        model: our name of the model.
        reason: what the provider said.
        secret: what must not be quoted, besides the secrets in the environment.
        param: the request's field at fault, if the provider named one.
        headers: of the provider's response; `Retry-After` is read from them.
    """
    happened, advice = next(
        explanation for known, explanation in _EXPLANATIONS.items() if issubclass(kind, known)
    )
    # The longest first, since one may be the beginning of another.
    secrets = sorted((value for value in (secret, *_secrets()) if value), key=len, reverse=True)
    quoted = "" if kind in _UNQUOTED else _quotable(reason, secrets).strip()[:_QUOTED]
    if param is not None:
        param = _quotable(str(param), secrets)[:_QUOTED]
    message = f"model '{model}' {happened}" + (f": {quoted}" if quoted else "")
    if advice:
        message = f"{message.rstrip('.')}; {advice}"
    return kind(message, param=param, retry_after=_retry_after(headers or {}))


def _quotable(said: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        said = said.replace(secret, "…")
    # JSON can hold half of a surrogate pair, which no response of ours can.
    return said.encode(errors="replace").decode()


def _secrets() -> list[str]:
    """The values of environment variables that are named like secrets: where no key is configured,
    a provider's library takes it from there."""
    return [
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    ]


# Any other status is a failure of the provider's.
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
# The codes by which providers say that their moderation refused a prompt.
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
