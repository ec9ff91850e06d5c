"""Promise: whatever a handle raises becomes one of our errors, without its internals."""

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import RayActorError, RayTaskError
from ray.serve._private.common import DeploymentID  # which the error is made of
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import LLMError, ModelUnavailable, Overloaded, RateLimited
from serve.dispatch.remote_errors import translate


def test_a_replicas_own_error_is_unwrapped_from_its_traceback() -> None:
    raised = RateLimited("later", retry_after=3)
    error = RayTaskError("chat", "Traceback …", raised)  # type: ignore[no-untyped-call]  # Ray's
    wrapped = error.as_instanceof_cause()  # type: ignore[no-untyped-call]
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


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        (StatusCode.CANCELLED, ModelUnavailable),
        (StatusCode.UNAVAILABLE, ModelUnavailable),
        (StatusCode.INTERNAL, ModelUnavailable),
        (StatusCode.UNKNOWN, LLMError),
    ],
)
def test_a_broken_connection_to_a_replica_is_no_unexpected_error(
    code: StatusCode, ours: type[LLMError]
) -> None:
    broken = AioRpcError(code, Metadata(), Metadata(), details="secret")
    came = translate(broken, "m")
    assert type(came) is ours
    assert "secret" not in came.message


def test_an_unexpected_error_is_not_quoted() -> None:
    assert "secret" not in translate(RuntimeError("secret"), "m").message
