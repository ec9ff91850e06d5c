"""Translates what a deployment's handle raises into our errors."""

import logging

from grpc import StatusCode
from grpc.aio import AioRpcError
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayTaskError,
    RpcError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)

from deployments.errors import LLMError, ModelUnavailable, Overloaded

logger = logging.getLogger("ray.serve")

# The replica or its node is gone; another one may answer.
_GONE = (
    RayActorError,
    WorkerCrashedError,
    NodeDiedError,
    LocalRayletDiedError,
    ObjectLostError,
    RpcError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
# The same, where Ray Serve calls replicas over gRPC: a replica that is stopped, or killed in the
# middle of an answer.
_BROKEN = (StatusCode.CANCELLED, StatusCode.UNAVAILABLE, StatusCode.INTERNAL)


def translate(error: BaseException, model: str) -> LLMError:
    """Our error for an exception that a deployment's handle has raised.

    Ray wraps the replica's exception; its text is the remote traceback, which callers must not see.
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, LLMError):
        return cause
    if isinstance(cause, BackPressureError):
        return Overloaded(f"model '{model}' is at its limit of concurrent requests", retry_after=1)
    if isinstance(cause, _GONE) or (isinstance(cause, AioRpcError) and cause.code() in _BROKEN):
        return ModelUnavailable(f"the replica of model '{model}' died", retry_after=1)
    logger.error("model '%s' failed", model, exc_info=error)
    return LLMError(f"model '{model}' failed unexpectedly; see the server's log")
