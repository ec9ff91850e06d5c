"""Promise: every error becomes OpenAI's error JSON, and says only what callers may know."""

import pickle

import pytest

from deployments.errors import LLMError, RateLimited
from serve.http.failures import error_json, error_response, from_status


def all_errors(base: type[LLMError] = LLMError) -> list[type[LLMError]]:
    return [base, *(error for child in base.__subclasses__() for error in all_errors(child))]


@pytest.mark.parametrize("error", all_errors())
def test_an_error_crosses_processes_whole(error: type[LLMError]) -> None:
    sent = error("what and why", param="messages", retry_after=2.5)
    came = pickle.loads(pickle.dumps(sent))
    assert type(came) is error
    assert (str(came), came.param, came.retry_after) == ("what and why", "messages", 2.5)
    assert 400 <= came.status < 600
    assert error_json(came)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (2.0, "2"), (2.1, "3")])
def test_retry_after_is_in_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    scope = {"path": "/v1/chat/completions"}
    said = error_response(RateLimited("later", retry_after=seconds), scope)
    assert said.headers["retry-after"] == header
    assert "retry-after" not in error_response(RateLimited("later"), scope).headers


def test_a_status_without_an_error_of_its_own_has_a_code() -> None:
    assert from_status(404, "GET /x: Not Found").code == "not_found"
