"""The router: the deployment that receives every request, decides which model answers, and replies.

All in one process: each further hop between deployments would cost more than the decision.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve as rayserve
from ray.serve.handle import DeploymentHandle

from deployments.config import ModelConfig
from deployments.registry import SHARED, parse, row_of
from deployments.replicas.error_log import log_known_errors_in_one_line
from deployments.replicas.hosted import HostedModels
from deployments.telemetry.reporting import Reporter, report_metrics
from serve.access.exposure import check_exposure, listening_host
from serve.access.keys import Keys
from serve.access.quotas import SharedQuotas
from serve.config import AppConfig, Settings
from serve.fleet import Fleet
from serve.handles import Deployed, Handle, InProcess
from serve.http.api import create_api
from serve.http.console.records import remembering
from serve.http.middleware.access_log import AccessLog
from serve.http.middleware.gate import guard
from serve.http.server import ROUTER, Server
from serve.routing.prices import Price, prices_of


class Router:
    """Puts the server together, and applies its settings.

    Args:
        config: the configuration.
        deployment_names: the deployment of each model.
        handles: by the deployments' names. With `llms.hosted.in_router` there is none for hosted
            models that share one.
        prices: of each model that has one.
        embedder: the deployment that embeds; None without a store, or where the routers embed.
    """

    def __init__(
        self,
        config: AppConfig,
        deployment_names: Mapping[str, str],
        handles: Mapping[str, DeploymentHandle[Any]],
        prices: Mapping[str, Price],
        embedder: DeploymentHandle[Any] | None,
    ) -> None:
        self._models = {model.name: model for model in config.llms.served}
        self._deployment_names = deployment_names
        self._handles: dict[str, Handle] = {
            name: Deployed(handle) for name, handle in handles.items()
        }
        self._in_process: HostedModels | None = None
        if config.llms.hosted.in_router:
            log_known_errors_in_one_line()
            self._in_process = HostedModels()
            self._handles |= dict.fromkeys(SHARED, InProcess(self._in_process))
        self._configured_router, self._configured_prices = config.llms.router, prices
        self._store, self._embedder = config.llms.store, embedder
        self._keys = Keys(config.server, config.llms.names)
        self._server = Server(config.server, self._fleet(self._models))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The API behind its gate; Ray Serve asks for it after the constructor."""
        self._reporter = report_metrics(self._server.view.report)
        api = create_api()
        self._server.attach(api)
        guarded = guard(api, self._server.config, self._keys, SharedQuotas().take)
        guarded.add_middleware(AccessLog, ended=remembering(self._server))
        return guarded

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Applies new settings; Ray Serve calls it at the start and on each change.

        Raises:
            ValueError: they are wrong. Ray Serve then starts a new replica.
        """
        check_exposure(self._server.config, await asyncio.to_thread(listening_host))
        settings = Settings.over(self._configured_router, user_config)
        models = self._models_of(settings)
        prices = await asyncio.to_thread(self._prices_of, settings, models)
        before = self._server.fleet
        same = [*models.items()] == [*before.models.items()]
        fleet = before if same else self._fleet(models, before)
        try:
            # Requests still come to the fleet before.
            await self._host({**before.models, **models})
            await fleet.watch()
            await fleet.configure(settings.router, prices)
        except BaseException:  # also a cancellation: nobody else would stop the new one
            if fleet is not before:
                fleet.stop()
            await self._host(before.models)
            raise
        if fleet is not before:
            self._server.fleet = fleet
            before.stop()
        await self._host(models)

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica if this raises."""
        if self._in_process is not None:
            await self._in_process.check_health()

    async def __del__(self) -> None:
        # Ray Serve awaits it, also if the constructor raised.
        models: HostedModels | None = getattr(self, "_in_process", None)
        server: Server | None = getattr(self, "_server", None)
        reporter: Reporter | None = getattr(self, "_reporter", None)
        try:
            if models is not None:
                await models.close()
            if server is not None:
                await server.fleet.core.close()
        finally:
            if reporter is not None:
                await asyncio.to_thread(reporter.close)

    def _fleet(self, models: Mapping[str, ModelConfig], before: Fleet | None = None) -> Fleet:
        names = {
            name: row_of(model).shared if model.shares else self._deployment_names[name]
            for name, model in models.items()
        }
        in_process = () if self._in_process is None else SHARED
        return Fleet.assemble(
            models, names, self._handles, in_process, self._store, self._embedder, before
        )

    async def _host(self, models: Mapping[str, ModelConfig]) -> None:
        """Has those models that run in this process take the place of the ones before."""
        if self._in_process is not None:
            await self._in_process.configure([each for each in models.values() if each.shares])

    def _models_of(self, settings: Settings) -> Mapping[str, ModelConfig]:
        """The models: as configured at the start, or as the settings have them."""
        if settings.models is None:
            return self._models
        models = {}
        for index, written in enumerate(settings.models):
            at = f"user_config.models.{index}"
            if isinstance(written, str):
                model = self._models.get(written)
                if model is None or model.shares:
                    raise ValueError(f"{at}: no model '{written}' has a deployment of its own")
            else:
                model = parse(written)
                if not model.shares or row_of(model).shared not in self._handles:
                    raise ValueError(f"{at}: '{model.name}' needs a deployment that is not there")
            models.update({served.name: served for served in model.served})
        return models

    def _prices_of(self, settings: Settings, models: Mapping[str, ModelConfig]) -> dict[str, Price]:
        """The price of each model that has one."""
        changed = [model for name, model in models.items() if model != self._models.get(name)]
        known = {name: at for name, at in self._configured_prices.items() if name in models}
        for model in changed:
            known.pop(model.name, None)
        set_now = {model: Price(*price) for model, price in settings.prices.items()}
        if unknown := set_now.keys() - models.keys():
            raise ValueError(f"user_config.prices: there is no model '{min(unknown)}'")
        return {**known, **prices_of(changed), **set_now}


RouterDeployment = rayserve.deployment(name=ROUTER)(rayserve.ingress()(Router))
