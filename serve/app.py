"""The application: `serve run serve.app:app`, or `build` with your own configuration."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray.serve.config import DeploymentActorConfig
from ray.serve.deployment import Application

from deployments.config import ModelConfig
from deployments.deploy import GRACE_S, HEALTH_CHECK_PERIOD_S, deploy, deploy_shared
from deployments.embedding.embedder import EMBEDDER, deploy_embedder
from deployments.registry import KINDS, row_of
from serve.access.quotas import ACTOR_NAME as QUOTAS
from serve.access.quotas import QuotaActor
from serve.config import (
    DEFAULT_CONFIG,
    AppConfig,
    ConfigError,
    LLMs,
    Settings,
    StoreConfig,
    wrong,
)
from serve.http.ingress import RouterDeployment
from serve.preflight import checked
from serve.routing.prices import Price, price_of
from serve.sequence import ACTOR_NAME as SEQUENCE
from serve.sequence import SequenceActor
from serve.smart.actor import DeciderActor
from serve.smart.client import ACTOR_NAME as DECIDER

_MAX_PENDING_CALLS = 2000  # of the decider, from each router replica
_MAX_REQUESTS = 10_000


def build(args: dict[str, Any]) -> Application:
    """Builds the application: the router, and the models' deployments.

    Args:
        args: the configuration itself (`llms`, `server`), or `config`: the path of a YAML file
            that holds it. These are the `args` of a Serve config file, or `key=value` after
            `serve run serve.app:build`.

    Raises:
        ConfigError: the configuration is wrong; the message names each key.
    """
    config = checked(args)
    models = config.llms.served
    names = deployment_names(config.llms.models)
    actors: list[dict[Any, Any] | DeploymentActorConfig] = [
        DeploymentActorConfig(name=SEQUENCE, actor_class=SequenceActor),
        DeploymentActorConfig(name=QUOTAS, actor_class=QuotaActor),
    ]
    embedder = None
    if store := config.llms.store:
        actors.append(_decider(models, store))
        embedder = deploy_embedder(store.embedding_model, store.embedder)
    router = RouterDeployment.options(
        autoscaling_config=config.server.autoscaling.model_dump(exclude_unset=True),
        # Ray creates the models' replicas first, which may take all CPUs. The router reserves none,
        # so that it can always start and report which models have no room.
        ray_actor_options={"num_cpus": 0},
        # The router itself refuses excess requests, in OpenAI's JSON; these are for when it can't.
        max_ongoing_requests=_MAX_REQUESTS,
        max_queued_requests=_MAX_REQUESTS,
        max_surge_percent=100,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        graceful_shutdown_timeout_s=GRACE_S,
        user_config=Settings(router=config.llms.router).model_dump(),
        deployment_actors=actors,
    )
    handles = _deployed(config.llms, names)
    return router.bind(config, handles, names, _prices(config), embedder)


def _deployed(llms: LLMs, names: Mapping[str, str]) -> dict[str, Application]:
    """The deployment of each model; adapters share their model's, hosted models that of their kind.

    Raises:
        ConfigError: a model can't be deployed as it is configured.
    """
    shared: dict[str, list[ModelConfig]] = {}
    for model in llms.models:
        if model.shares:
            shared.setdefault(names[model.name], []).append(model)
    applications = {
        name: deploy_shared(name, models, llms.hosted.autoscaling)
        for name, models in shared.items()
    }
    deployed, faults = {}, []
    for index, model in enumerate(llms.models):
        name = names[model.name]
        try:
            application = applications[name] if model.shares else deploy(model, name)
        except ValueError as error:
            faults.append(f"llms.models.{index}.{error}")
        else:
            deployed.update({served.name: application for served in model.served})
    if faults:
        raise ConfigError(wrong("the configuration", faults))
    return deployed


def _prices(config: AppConfig) -> dict[str, Price]:
    """The price of each model that has one: as configured, else as LiteLLM lists it. Preflight
    refuses models without a price where a strategy needs one."""
    prices = {}
    for model in config.llms.models:
        with suppress(ValueError):
            price = price_of(model.model_dump())
            prices.update({served.name: price for served in model.served})
    return prices


def _decider(models: Sequence[ModelConfig], store: StoreConfig) -> DeploymentActorConfig:
    priors = {m.name: m.prior_quality for m in models if m.prior_quality is not None}
    return DeploymentActorConfig(
        name=DECIDER,
        actor_class=DeciderActor,
        # In plain values, into which Ray Serve turns them when a Serve config overrides options.
        init_kwargs={
            "identities": {model.name: model.identity for model in models},
            "priors": priors,
            "store": store.model_dump(mode="json"),
        },
        actor_options={
            "max_pending_calls": _MAX_PENDING_CALLS,
            "max_concurrency": 4 * _MAX_PENDING_CALLS,
        },
    )


def deployment_names(models: Sequence[ModelConfig]) -> dict[str, str]:
    """A Ray Serve deployment name for each model: its own name where possible. An adapter shares
    its model's deployment, and hosted models share that of their kind.

    If two names collide, the later one gets a part of its hash, so that names are deterministic.
    """
    taken = {"Router", EMBEDDER, *(kind.shared for kind in KINDS.values())}
    names = {}
    for model in models:
        if model.shares:
            names[model.name] = row_of(model).shared
            continue
        safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", model.name)
        if safe in taken:
            safe += "-" + hashlib.sha256(model.name.encode()).hexdigest()[:8]
        taken.add(safe)
        names.update({served.name: safe for served in model.served})
    return names


def __getattr__(name: str) -> Application:
    """`app`, the default application, built on first access: `build` needs no demo models."""
    if name == "app":
        return build({"config": str(DEFAULT_CONFIG)})
    raise AttributeError(name)
