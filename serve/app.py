"""The application: `serve run serve.app:app`, or `build` with a configuration of one's own."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.serve.config import DeploymentActorConfig
from ray.serve.deployment import Application

from deployments.config import ModelConfig
from deployments.replica import GRACE_S, deploy
from deployments.sequence import Sequence as SequenceActor
from serve.config import load_config
from serve.ingress import RouterDeployment
from serve.turns import ACTOR_NAME

DEFAULT_CONFIG = Path(__file__).parent.parent / "ops" / "demo" / "llms.yaml"


def build(args: dict[str, Any]) -> Application:
    """The graph: the router over one deployment for each model.

    Args:
        args: the configuration itself (`llms`, `server`), or `config`: the path of a YAML file
            that holds it. These are the `args` of a Serve config file, or `key=value` behind
            `serve run serve.app:build`.

    Raises:
        ConfigError: the configuration is wrong; the message names each key.
    """
    config = load_config(args)
    models = config.llms.models
    names = deployment_names(models)
    router = RouterDeployment.options(
        autoscaling_config=config.server.autoscaling.model_dump(exclude_unset=True),
        ray_actor_options={"num_cpus": 0.5},
        # Waiting for models costs a router nothing: what bounds it is the models' own queues.
        max_ongoing_requests=1000,
        max_queued_requests=1000,
        graceful_shutdown_timeout_s=GRACE_S,
        user_config=config.llms.router.model_dump(),
        deployment_actors=[DeploymentActorConfig(name=ACTOR_NAME, actor_class=SequenceActor)],
    )
    handles = {model.name: deploy(model, names[model.name]) for model in models}
    return router.bind(config, handles, names)


def deployment_names(models: Sequence[ModelConfig]) -> dict[str, str]:
    """A Ray Serve deployment name for each model's name: the same where it can be.

    Where two would collide, the later one gets a piece of its hash, so that the names don't depend
    on chance.
    """
    taken = {"Router"}
    names = {}
    for model in models:
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", model.name)
        if safe in taken:
            safe += "-" + hashlib.sha256(model.name.encode()).hexdigest()[:8]
        taken.add(safe)
        names[model.name] = safe
    return names


def __getattr__(name: str) -> Application:
    """`app`, the embedded default, made when it is asked for: `build` needs no demo models."""
    if name == "app":
        return build({"config": str(DEFAULT_CONFIG)})
    raise AttributeError(name)
