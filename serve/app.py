"""The application: `serve run serve.app:app`, or `build` with your own configuration."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray.serve.config import DeploymentActorConfig
from ray.serve.deployment import Application

from deployments.config import ModelConfig
from deployments.deploy import (
    GRACE_S,
    HEALTH_CHECK_PERIOD_S,
    as_written,
    deploy,
    deploy_shared,
    shared_config,
)
from deployments.embedding.embedder import EMBEDDER, deploy_embedder
from deployments.registry import SHARED, row_of
from deployments.telemetry.reporting import ACTOR_NAME as TELEMETRY
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
from serve.http.aios.selections import ACTOR_NAME as SELECTIONS
from serve.http.aios.selections import SelectionActor
from serve.http.ingress import RouterDeployment
from serve.http.server import ROUTER
from serve.preflight import checked
from serve.routing.prices import prices_of
from serve.sequence import ACTOR_NAME as SEQUENCE
from serve.sequence import SequenceActor
from serve.smart.actor import StoreActor
from serve.smart.client import ACTOR_NAME as STORE
from serve.telemetry.actor import TelemetryActor

_MAX_PENDING_CALLS = 2000  # of the store, from each router replica
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
        DeploymentActorConfig(name=SELECTIONS, actor_class=SelectionActor),
        DeploymentActorConfig(name=TELEMETRY, actor_class=TelemetryActor),
    ]
    embedder = None
    if store := config.llms.store:
        actors.append(_store([model for model in models if not model.embeds], store))
        if not store.embeds_in_routers:
            embedder = deploy_embedder(store.embedding_model, store.embedder)
    router = RouterDeployment.options(
        autoscaling_config=config.server.autoscaling.for_ray(),
        # Ray creates the models' replicas first, which may take all CPUs. The router reserves none,
        # so that it can always start and report which models have no room.
        ray_actor_options={"num_cpus": 0},
        # The router itself refuses excess requests, in OpenAI's JSON; these are for when it can't.
        max_ongoing_requests=_MAX_REQUESTS,
        max_queued_requests=_MAX_REQUESTS,
        max_surge_percent=100,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        graceful_shutdown_timeout_s=GRACE_S,
        user_config=live_settings(config)[ROUTER],
        deployment_actors=actors,
    )
    # Preflight refuses models without a price where a strategy needs one.
    prices = prices_of(config.llms.models)
    return router.bind(config, names, _deployed(config.llms, names), prices, embedder)


def live_settings(config: AppConfig) -> dict[str, dict[str, Any]]:
    """The `user_config` of each deployment that takes changes without a new process."""
    hosted: dict[str, list[ModelConfig]] = {}
    for model in config.llms.models:
        if model.shares:
            hosted.setdefault(row_of(model).shared, []).append(model)
    shared = {name: shared_config(models) for name, models in hosted.items()}
    in_router = config.llms.hosted.in_router
    settings = Settings(
        router=config.llms.router,
        models=[as_written(model) if model.shares else model.name for model in config.llms.models],
        fixed=_fixed(config, () if in_router else shared),
    )
    return {**({} if in_router else shared), ROUTER: settings.model_dump()}


def _fixed(config: AppConfig, shared: Iterable[str]) -> str:
    """A digest of the rest of the configuration."""
    own = [as_written(model) for model in config.llms.models if not model.shares]
    store = config.llms.store
    fixed = [
        own,
        sorted(shared),
        config.llms.hosted.model_dump(mode="json"),
        config.server.model_dump(mode="json"),
        store and store.model_dump(mode="json"),
    ]
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def _deployed(llms: LLMs, names: Mapping[str, str]) -> dict[str, Application]:
    """The deployments by their names; adapters share their model's, hosted models that of their
    kind, or have none where the router runs them.

    Raises:
        ConfigError: a model can't be deployed as it is configured.
    """
    shared: dict[str, list[ModelConfig]] = {}
    for model in llms.models:
        if model.shares and not llms.hosted.in_router:
            shared.setdefault(names[model.name], []).append(model)
    applications = {
        name: deploy_shared(name, models, llms.hosted.autoscaling)
        for name, models in shared.items()
    }
    faults = []
    for index, model in enumerate(llms.models):
        if not model.shares:
            name = names[model.name]
            try:
                applications[name] = deploy(model, name)
            except ValueError as error:
                faults.append(f"llms.models.{index}.{error}")
    if faults:
        raise ConfigError(wrong("the configuration", faults))
    return applications


def _store(models: Sequence[ModelConfig], store: StoreConfig) -> DeploymentActorConfig:
    priors = {m.name: m.prior_quality for m in models if m.prior_quality is not None}
    return DeploymentActorConfig(
        name=STORE,
        actor_class=StoreActor,
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
    taken = {ROUTER, EMBEDDER, *SHARED}
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
