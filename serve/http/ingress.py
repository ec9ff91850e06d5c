"""The router: the deployment that receives every request, decides which model answers, and replies.

All in one process: each further hop between deployments would cost more than the decision.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve as rayserve
from ray.serve.handle import DeploymentHandle

from serve.access.exposure import check_exposure, listening_host
from serve.access.keys import Keys
from serve.access.quotas import SharedQuotas
from serve.availability.circuits import Circuits
from serve.availability.context_windows import ContextWindows
from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability
from serve.config import AppConfig, Settings
from serve.core import Core
from serve.http.access_log import AccessLog
from serve.http.api import create_api
from serve.http.gate import guard
from serve.http.server import Server
from serve.routing.prices import Price
from serve.smart.service import Smart


class Router:
    """Puts the server together, and applies its settings."""

    def __init__(
        self,
        config: AppConfig,
        handles: Mapping[str, DeploymentHandle[Any]],
        deployment_names: Mapping[str, str],
        prices: Mapping[str, Price],
        embedder: DeploymentHandle[Any] | None,
    ) -> None:
        models = {model.name: model for model in config.llms.served}
        availability = Availability(models, deployment_names)
        circuits = Circuits(models)
        windows = ContextWindows(models, handles, availability)
        readiness = Readiness(models, handles, availability, circuits)
        smart = Smart(models, embedder) if embedder is not None else None
        core = Core(models, handles, availability, circuits, windows.known, smart)
        self._keys = Keys(config.server, models)
        self._server = Server(config.server, core, availability, readiness, windows)
        self._configured_router, self._configured_prices = config.llms.router, prices

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The API behind its gate; Ray Serve asks for it after the constructor."""
        api = create_api()
        self._server.attach(api)
        guarded = guard(api, self._server.config, self._keys, SharedQuotas().take)
        guarded.add_middleware(AccessLog)
        return guarded

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Applies new router settings; Ray Serve calls it at the start and on each change."""
        check_exposure(self._server.config, await asyncio.to_thread(listening_host))
        settings = Settings.over(self._configured_router, user_config)
        if unknown := settings.prices.keys() - self._server.core.models.keys():
            raise ValueError(f"user_config.prices: there is no model '{min(unknown)}'")
        changed = {model: Price(*price) for model, price in settings.prices.items()}
        await self._server.availability.watch()
        self._server.readiness.watch()
        self._server.windows.watch()
        prices = {**self._configured_prices, **changed}
        await self._server.core.configure(settings.router, prices)


RouterDeployment = rayserve.deployment(name="Router")(rayserve.ingress()(Router))
