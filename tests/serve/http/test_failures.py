"""Promise: whatever goes wrong ends as OpenAI's error JSON and says what callers may know."""

import pickle

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.serve._private.common import DeploymentID  # what Serve builds the error from
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import LLMError, ModelUnavailable, Overloaded, RateLimited
from serve.dispatch.remote_errors import translate
from serve.http.failures import error_headers, error_json, from_status


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
    assert error_headers(RateLimited("later", retry_after=seconds)) == {"retry-after": header}
    assert error_headers(RateLimited("later")) == {}


def test_a_replicas_own_error_is_unwrapped_from_its_traceback() -> None:
    raised = RateLimited("later", retry_after=3)
    wrapped = RayTaskError("chat", "Traceback …", raised).as_instanceof_cause()
    came = translate(wrapped, "m")
    assert isinstance(came, RateLimited)
    assert (came.message, came.retry_after) == ("later", 3)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (BackPressureError(num_queued_requests=9, max_queued_requests=9), Overloaded),
        (DeploymentUnavailableError(DeploymentID(name="m", app_name="a")), ModelUnavailable),
        (RayActorError(), ModelUnavailable),
    ],
)
def test_ray_serves_errors_become_ours(error: Exception, ours: type[LLMError]) -> None:
    came = translate(error, "m")
    assert type(came) is ours
    assert "'m'" in came.message


def test_an_unexpected_error_is_not_quoted() -> None:
    assert "secret" not in translate(RuntimeError("secret"), "m").message
    assert from_status(404, "GET /x: Not Found").code == "not_found"
