"""What is told of a provider's failure, and what is not."""

import traceback

import pytest

from deployments.errors import InvalidRequest, LLMError
from deployments.litellm_backend import _reason
from deployments.provider_errors import explain, translated

SECRET = "sk-0123456789abcdef"


@pytest.mark.parametrize("before", range(480, 502))
def test_no_part_of_the_key_is_quoted_wherever_the_reason_is_cut(before: int) -> None:
    reason = "x" * before + SECRET
    message = explain(InvalidRequest, "ours", reason, secret=SECRET).message
    assert SECRET[:1] not in message.partition("xxx")[2]


def test_a_key_that_begins_as_another_one_is_cut_out_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_KEY", SECRET[:12])
    monkeypatch.setenv("B_KEY", SECRET)
    message = explain(InvalidRequest, "ours", f"key {SECRET}", secret=SECRET[:10]).message
    assert message.endswith("key …")


def test_an_unknown_error_tells_its_type_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(LLMError) as raised, translated(lambda error: None):
        f"Bearer {SECRET}é".encode("ascii")
    told = "".join(traceback.format_exception(raised.value))
    assert "UnicodeEncodeError" in told
    assert SECRET not in told
    assert "UnicodeEncodeError" in caplog.text
    assert SECRET not in caplog.text


def test_a_traceback_is_no_reason() -> None:
    error = ValueError(
        'litellm.APIConnectionError: it broke\nTraceback (most recent call last):\n  File "x.py"'
    )
    assert _reason(error) == "it broke"
