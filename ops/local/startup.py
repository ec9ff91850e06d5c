"""Waits until every model has started or failed to, and shows the progress meanwhile."""

import sys
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any, NoReturn

import httpx
from ray import serve as rayserve
from ray.serve.schema import DeploymentStatusOverview

from deployments.embedding.embedder import EMBEDDER
from ops.local.console import Console
from serve.availability.replicas import messages
from serve.availability.shortages import shortages

APPLICATION = "default"

ROUTER = "Router"
_PERIOD_S = 0.5
# A large model may take long to download and load; Ray gives an engine an hour.
_STARTUP_S = 3600
# Ray on a single machine doesn't grow: a replica that finds no room for so long never will.
_ROOM_S = 15
# The router looks for providers for 10 s, so it may know later than Ray Serve how a model is.
_SETTLING_S = 12
_MOST_LINES = 20
_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")
# Where keys are required, callers without one are told that models are unavailable, not which.
_UNNAMED = {"some models": "/health/ready says which and why, to requests with an API key"}


def wait_until_ready(url: str, console: Console) -> None:
    """Waits until every model has started or failed to; prints those that failed.

    Raises:
        SystemExit: no model runs, or the store can't start; the message says why.
    """
    startup = Startup(url)
    began = settled = time.monotonic()
    while True:
        startup.refresh()
        now = time.monotonic()
        if startup.fault:
            _give_up("startup failed", {"application": startup.fault}, console)
        if startup.failed:
            _give_up("startup failed", startup.unavailable, console)
        if startup.store["status"] == "failed":
            reasons = {"store": startup.store.get("message") or "see the log"}
            _give_up("the store failed to start", reasons, console)
        if not startup.settled:
            settled = now
        elif startup.health["status"] == "ready" and not startup.unavailable:
            return
        elif now - settled > _SETTLING_S:
            break
        if now - began > _STARTUP_S:
            _give_up(f"not ready after {_STARTUP_S} s", startup.unavailable, console)
        startup.show(console)
        time.sleep(_PERIOD_S)
    if not startup.has_running_model:
        _give_up("startup failed: no model is available", startup.unavailable, console)
    all_models = startup.health["status"] == "ready"
    console.line("these did not start:" if all_models else "these models are unavailable:")
    for line in _lines(startup.unavailable or _UNNAMED):
        console.line(console.red(line))


class Startup:
    """How far the application has started, as of the last `refresh`.

    Attributes:
        fault: why the application could not be built; "" if it could.
        deployments: Ray Serve's status of each deployment.
        unavailable: the deployments and models that can't answer, with the reason.
        starting: the deployments that may still start.
        health: what the router reports; empty while it doesn't respond.
        store: the status of the store.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._had_room = time.monotonic()
        self.fault = ""
        self.deployments: Mapping[str, DeploymentStatusOverview] = {}
        self.unavailable: dict[str, str] = {}
        self.starting: list[str] = []
        self.health: dict[str, Any] = {}
        self.store: dict[str, Any] = {}

    def refresh(self) -> None:
        """Asks Ray Serve, and the router once it runs."""
        application = rayserve.status().applications[APPLICATION]
        self.deployments = application.deployments
        if application.status == "DEPLOY_FAILED" and not application.deployments:
            self.fault = application.message
        failed = {name: d.message for name, d in self.deployments.items() if d.status in _FAILED}
        without_room = self._without_room()
        self.unavailable = messages(failed) | without_room
        self.starting = [
            name
            for name, deployment in self.deployments.items()
            if deployment.status != "HEALTHY" and name not in {*failed, *without_room}
        ]
        self.health = {} if ROUTER in self.starting else fetch_health(self._url)
        self.store = self.health.get("store", {"status": "ready"})
        for name, model in self.health.get("models", {}).items():
            if not model["available"]:
                self.unavailable.setdefault(name, model["message"] or "not available")

    @property
    def failed(self) -> bool:
        """Whether the router, which everything needs, can't start."""
        router = self.deployments.get(ROUTER)
        return router is not None and router.status != "UNHEALTHY" and ROUTER in self.unavailable

    @property
    def has_running_model(self) -> bool:
        """Whether a model's deployment runs, even if its provider can't be reached now."""
        models = self.deployments.keys() - {ROUTER, EMBEDDER}
        return any(self.deployments[name].status == "HEALTHY" for name in models)

    @property
    def settled(self) -> bool:
        """Whether every deployment has started or failed to, and the store is ready."""
        return bool(self.health) and not self.starting and self.store["status"] == "ready"

    def show(self, console: Console) -> None:
        """Shows what is still starting."""
        if self.starting:
            total = len(self.deployments)
            console.progress(
                "starting processes, loading weights", total - len(self.starting), total
            )
        elif self.store["status"] != "ready":
            stage = self.store.get("message") or self.store["status"]
            console.progress(f"store: {stage}", *self.store.get("rows", ()))

    def _without_room(self) -> dict[str, str]:
        missing = shortages(APPLICATION)
        now = time.monotonic()
        if not missing:
            self._had_room = now
        return missing if now - self._had_room > _ROOM_S else {}


def fetch_health(url: str) -> dict[str, Any]:
    """The server's health; empty while it doesn't respond."""
    try:
        # Not through a proxy that the environment names for outside hosts.
        response = httpx.get(f"{url}/health/ready", timeout=5, trust_env=False)
        health: dict[str, Any] = response.json()
    except (httpx.HTTPError, ValueError):
        return {}
    return health if "status" in health else {}  # without it, it is an error


def _give_up(what: str, reasons: Mapping[str, str], console: Console) -> NoReturn:
    log = [f"full log: {console.log}"] if console.log is not None else []
    sys.exit("\n".join([what, *_lines(reasons), *log]))


def _lines(reasons: Mapping[str, str]) -> list[str]:
    lines = [f"  {name}: {reason}" for name, reason in islice(reasons.items(), _MOST_LINES)]
    more = len(reasons) - len(lines)
    return [*lines, f"  and {more} more; see /health/ready"] if more else lines
