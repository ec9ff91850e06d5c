"""Promise: a provider's failure is explained without telling a secret."""

import traceback

import pytest

from deployments.backends.litellm.errors import reason_of
from deployments.backends.provider_errors import by_status, explain, translated
from deployments.errors import (
    ContentFiltered,
    InvalidRequest,
    LLMError,
    ProviderRejected,
    RequestTooLarge,
)

SECRET = "sk-0123456789abcdef"


@pytest.mark.parametrize("before", range(480, 502))
def test_no_part_of_the_key_is_quoted_wherever_the_reason_is_cut(before: int) -> None:
    reason = "x" * before + SECRET
    message = explain(InvalidRequest, "ours", reason, secret=SECRET).message
    assert SECRET[:1] not in message.partition("xxx")[2]


def test_a_key_that_begins_like_another_is_removed_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_KEY", SECRET[:12])
    monkeypatch.setenv("B_KEY", SECRET)
    message = explain(InvalidRequest, "ours", f"key {SECRET}", secret=SECRET[:10]).message
    assert message.endswith("key …")


def test_half_an_emoji_in_a_reason_is_replaced() -> None:
    """No response could hold it: a stream would end without its error."""
    error = explain(InvalidRequest, "ours", "half \ud83d", param="a.\ud83d")
    assert error.message.endswith("half ?")
    assert error.param == "a.?"


def test_an_unknown_error_shows_only_its_type(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(LLMError) as raised, translated(lambda error: None):
        f"Bearer {SECRET}é".encode("ascii")
    told = "".join(traceback.format_exception(raised.value))
    assert "UnicodeEncodeError" in told
    assert SECRET not in told
    assert "UnicodeEncodeError" in caplog.text
    assert SECRET not in caplog.text


def test_a_traceback_is_not_quoted() -> None:
    error = ValueError(
        'litellm.APIConnectionError: it broke\nTraceback (most recent call last):\n  File "x.py"'
    )
    assert reason_of(error) == "it broke"


def test_only_three_statuses_are_the_callers_fault() -> None:
    callers = {
        status for status in range(400, 600) if issubclass(by_status(status), InvalidRequest)
    }
    assert callers == {400, 413, 422}
    assert by_status(413) is RequestTooLarge


MODERATED = {"message": "flagged", "metadata": {"flagged_input": "x", "reasons": ["violence"]}}
WRONG_KEY = {"code": 400, "details": [{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}]}


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (403, MODERATED, ContentFiltered),  # OpenRouter
        (400, {"code": "content_filter"}, ContentFiltered),  # Azure
        (403, {"message": "no"}, ProviderRejected),
        (401, MODERATED, ProviderRejected),
        (400, WRONG_KEY, ProviderRejected),  # Google
        (400, {"code": ["odd"], "details": "odd", "metadata": "odd"}, InvalidRequest),
        (400, "text", InvalidRequest),
    ],
)
def test_moderation_and_a_wrong_key_are_recognised_by_their_codes(
    status: int, error: object, kind: type[LLMError]
) -> None:
    assert by_status(status, error) is kind
