"""Makes the Ray Serve deployment of a configured model."""

from typing import Any

from ray import serve as rayserve
from ray.serve.config import RequestRouterConfig
from ray.serve.deployment import Application

from deployments.config import ModelConfig
from deployments.registry import named, row_of
from deployments.replica import Replica

# Seconds that a replica has to finish its answers when it is stopped.
GRACE_S = 120.0
# Short, since a dead replica is noticed only by its health check.
HEALTH_CHECK_PERIOD_S = 2.0
_LONGEST_BACKOFF_S = 0.05


def deploy(config: ModelConfig, deployment_name: str) -> Application:
    """The Ray Serve application of one model.

    Raises:
        ValueError: the model can't be deployed as configured; the message begins with a key.
    """
    options: dict[str, Any] = {
        "name": deployment_name,
        "max_ongoing_requests": config.max_ongoing_requests,
        # For each router replica. Beyond it, requests fail at once.
        "max_queued_requests": config.queue,
        "graceful_shutdown_timeout_s": GRACE_S,
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        # How long capacity stays idle while requests wait. Ray's default of half a second costs a
        # third of the throughput.
        "request_router_config": RequestRouterConfig(
            max_backoff_s=_LONGEST_BACKOFF_S  # type: ignore[arg-type]  # mypy takes it for a dict
        ),
    }
    if config.autoscaling is not None:
        options["autoscaling_config"] = {
            # Ray's default of 2 is for one request at a time; a replica here answers many at once.
            "target_ongoing_requests": max(1, config.max_ongoing_requests // 2),
            **config.autoscaling.model_dump(exclude_unset=True),
        }
    if own := row_of(config).deployment:
        return _deploy_by(own, config, options)
    options["ray_actor_options"] = config.ray_actor_options
    if not config.ray_actor_options.get("num_gpus"):
        # New replicas start before old ones stop. For GPUs there may be no room for both.
        options["max_surge_percent"] = 100
    return rayserve.deployment(**options)(Replica).bind(config)


def _deploy_by(path: str, config: ModelConfig, options: dict[str, Any]) -> Application:
    try:
        deployment = named(path)
    except ImportError as error:
        missing = next(
            config.faults(), f"backend: {config.backend} needs a library that is not installed"
        )
        raise ValueError(f"{missing} ({error})") from error
    application: Application = deployment(config, options)
    return application
