"""From what a deployment's handle raises to our errors."""

import logging

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

# What is left of a replica, or of its node: another one may answer.
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


def translate(error: BaseException, model: str) -> LLMError:
    """The error of ours for what came over a deployment's handle.

    Ray wraps what a replica raised; its text is the remote traceback, which is not for callers.
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, LLMError):
        return cause
    if isinstance(cause, BackPressureError):
        return Overloaded(f"model '{model}' has as many requests as it can take", retry_after=1)
    if isinstance(cause, _GONE):
        return ModelUnavailable(f"the replica of model '{model}' went away", retry_after=1)
    logger.error("model '%s' failed", model, exc_info=error)
    return LLMError(f"model '{model}' failed; the server's log says why")
