"""Makes of each configured model its Ray Serve deployment."""

from typing import Any

from ray import serve as rayserve
from ray.serve.deployment import Application

from deployments.config import EngineConfig, ModelConfig
from deployments.replica import Replica

# Seconds that a replica which is to go has for the answers that it is writing.
GRACE_S = 120.0


def deploy(config: ModelConfig, deployment_name: str) -> Application:
    """The Ray Serve application node for one model.

    Raises:
        ValueError: the model can't be deployed as it is configured; the message says why.
    """
    options: dict[str, Any] = {
        "name": deployment_name,
        "max_ongoing_requests": config.max_ongoing_requests,
        # As many again may wait, for each router replica; beyond it the caller is told at once.
        "max_queued_requests": config.max_ongoing_requests,
        "graceful_shutdown_timeout_s": GRACE_S,
    }
    if config.autoscaling is not None:
        options["autoscaling_config"] = {
            # Ray's default of 2 is for one request at a time; a replica here answers many at once.
            "target_ongoing_requests": max(1, config.max_ongoing_requests // 2),
            **config.autoscaling.model_dump(exclude_unset=True),
        }
    if isinstance(config, EngineConfig):
        return _deploy_engine(config, options)
    options["ray_actor_options"] = config.ray_actor_options
    return rayserve.deployment(**options)(Replica).bind(config)


def _deploy_engine(config: EngineConfig, options: dict[str, Any]) -> Application:
    try:
        # Not on top: vLLM is heavy, and an extra.
        from deployments.vllm_replica import deploy_engine
    except ImportError as error:
        raise ValueError(
            "a `vllm` model without `hostname` runs on this cluster, which needs the engine: "
            f"pip install 'llm-cores-on-ray-serve[vllm]' (there is no {error.name}); or give the "
            "`hostname` of a vLLM server"
        ) from error
    return deploy_engine(config, options)
