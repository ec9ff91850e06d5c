"""From whatever went wrong to OpenAI's error JSON."""

import logging
from http import HTTPStatus
from math import ceil
from typing import Any

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


def error_json(error: LLMError) -> dict[str, Any]:
    """OpenAI's error object.

    Source: https://platform.openai.com/docs/guides/error-codes
    """
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_headers(error: LLMError) -> dict[str, str]:
    """`Retry-After`, in whole seconds, where the error knows it."""
    if error.retry_after is None:
        return {}
    return {"retry-after": str(max(1, ceil(error.retry_after)))}


def from_status(status: int, detail: str) -> LLMError:
    """The error for a path or method that the server doesn't have."""
    error = LLMError(detail or HTTPStatus(status).phrase)
    error.status = status
    error.type = "invalid_request_error" if status < 500 else "server_error"
    error.code = HTTPStatus(status).name.lower()
    return error
