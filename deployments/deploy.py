"""Makes the Ray Serve deployments of the configured models."""

from collections.abc import Sequence
from typing import Any

from ray import serve as rayserve
from ray.serve.config import RequestRouterConfig
from ray.serve.deployment import Application

from deployments.config import Autoscaling, ModelConfig
from deployments.registry import named, row_of
from deployments.replicas.replica import Replica
from deployments.replicas.shared import SharedReplica

# Seconds that a replica has to finish its answers when it is stopped.
GRACE_S = 120.0
# Short, since a dead replica is noticed only by its health check.
HEALTH_CHECK_PERIOD_S = 2.0
_LONGEST_BACKOFF_S = 0.05
# Each model in a shared replica has a limit of its own, and the routers limit them all together.
_MAX_SHARED_REQUESTS = 10_000
# Few, since the models run elsewhere.
SHARED_CPUS = 0.1


def deploy(config: ModelConfig, deployment_name: str) -> Application:
    """The Ray Serve application of one model.

    Raises:
        ValueError: the model can't be deployed as configured; the message begins with a key.
    """
    options = {
        **_options(deployment_name),
        "max_ongoing_requests": config.max_ongoing_requests,
        # For each router replica. Beyond it, requests fail at once.
        "max_queued_requests": config.queue,
    }
    if config.autoscaling is not None:
        options["autoscaling_config"] = config.autoscaling.for_ray(
            # Ray's default of 2 is for one request at a time; a replica here answers many at once.
            target_ongoing_requests=max(1, config.max_ongoing_requests // 2)
        )
    if own := row_of(config).deployment:
        return _deploy_by(own, config, options)
    options["ray_actor_options"] = config.ray_actor_options
    if not config.ray_actor_options.get("num_gpus"):
        # New replicas start before old ones stop. For GPUs there may be no room for both.
        options["max_surge_percent"] = 100
    return rayserve.deployment(**options)(Replica).bind(config)


def deploy_shared(
    name: str, models: Sequence[ModelConfig], autoscaling: Autoscaling
) -> Application:
    """The Ray Serve application that hosted models of one kind share."""
    deployment = rayserve.deployment(
        **_options(name),
        max_ongoing_requests=_MAX_SHARED_REQUESTS,
        max_queued_requests=_MAX_SHARED_REQUESTS,
        autoscaling_config=autoscaling.for_ray(),
        ray_actor_options={"num_cpus": SHARED_CPUS},
        max_surge_percent=100,
        user_config=shared_config(models),
    )
    application: Application = deployment(SharedReplica).bind()
    return application


def shared_config(models: Sequence[ModelConfig]) -> dict[str, Any]:
    """The `user_config` of a shared deployment; see `SharedReplica.reconfigure`."""
    return {"models": [as_written(model) for model in models]}


def as_written(model: ModelConfig) -> dict[str, Any]:
    """A model's configuration in plain values, without the defaults."""
    return model.model_dump(mode="json", exclude_unset=True)


def _options(name: str) -> dict[str, Any]:
    """What all models' deployments have in common."""
    return {
        "name": name,
        "graceful_shutdown_timeout_s": GRACE_S,
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        # How long capacity stays idle while requests wait. Ray's default of half a second costs a
        # third of the throughput.
        "request_router_config": RequestRouterConfig(
            max_backoff_s=_LONGEST_BACKOFF_S  # type: ignore[arg-type]  # mypy takes it for a dict
        ),
    }


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
