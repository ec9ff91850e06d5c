"""Waits until each model answers or is known to be unable to, and shows meanwhile how far it is."""

import sys
import time
from collections.abc import Mapping
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
# A large model may take long to come and to load; Ray gives an engine an hour.
_STARTUP_S = 3600
# A Ray of one machine doesn't grow: what finds no room on it for so long never will.
_ROOM_S = 15
# How much later than Ray Serve the router may know how a model is: it looks for providers for 10 s.
_SETTLING_S = 12
_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")
# To whom the server asks for a key, it says only that there are some.
_UNNAMED = {"some models": "/health/ready says which and why, to callers with a key"}


def wait_until_ready(url: str, console: Console) -> None:
    """Waits until each model answers or is known to be unable to, and names the latter.

    Raises:
        SystemExit: no model runs, or the store can't start; the message says why.
    """
    startup = Startup(url)
    began = settled = time.monotonic()
    while True:
        startup.look()
        now = time.monotonic()
        if startup.failed:
            _give_up("the start failed", startup.lost, console)
        if startup.store["status"] == "failed":
            reasons = {"store": startup.store.get("message") or "the log says why"}
            _give_up("the store did not start", reasons, console)
        if not startup.settled:
            settled = now
        elif startup.health["status"] == "ready" and not startup.lost:
            return
        elif now - settled > _SETTLING_S:
            break
        if now - began > _STARTUP_S:
            _give_up(f"not ready after {_STARTUP_S} s", startup.lost, console)
        startup.show(console)
        time.sleep(_PERIOD_S)
    if not startup.runs_a_model:
        _give_up("the start failed: no model can answer", startup.lost, console)
    models_lost = startup.health["status"] != "ready"
    console.line("these can't answer:" if models_lost else "these are not there:")
    for line in _lines(startup.lost or _UNNAMED):
        console.line(console.red(line))


class Startup:
    """How far the application is, at the last look.

    Attributes:
        deployments: what Ray Serve says of each.
        lost: of the deployments and models that can't answer, why.
        starting: the deployments of which it is not yet known whether they can.
        health: what the router says; empty while it says nothing.
        store: how the store is.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._had_room = time.monotonic()
        self.deployments: Mapping[str, DeploymentStatusOverview] = {}
        self.lost: dict[str, str] = {}
        self.starting: list[str] = []
        self.health: dict[str, Any] = {}
        self.store: dict[str, Any] = {}

    def look(self) -> None:
        """Asks Ray Serve, and the router once it runs."""
        self.deployments = rayserve.status().applications[APPLICATION].deployments
        failed = {name: d.message for name, d in self.deployments.items() if d.status in _FAILED}
        without_room = self._without_room()
        self.lost = messages(failed) | without_room
        self.starting = [
            name
            for name, deployment in self.deployments.items()
            if deployment.status != "HEALTHY" and name not in {*failed, *without_room}
        ]
        self.health = {} if ROUTER in self.starting else ask_health(self._url)
        self.store = self.health.get("store", {"status": "ready"})
        for name, model in self.health.get("models", {}).items():
            if not model["available"]:
                self.lost.setdefault(name, model["message"] or "not available")

    @property
    def failed(self) -> bool:
        """Whether the router, without which nothing answers, will not come."""
        router = self.deployments.get(ROUTER)
        return router is not None and router.status != "UNHEALTHY" and ROUTER in self.lost

    @property
    def runs_a_model(self) -> bool:
        """Whether a model is there, if only to answer once its provider can be reached."""
        models = self.deployments.keys() - {ROUTER, EMBEDDER}
        return any(self.deployments[name].status == "HEALTHY" for name in models)

    @property
    def settled(self) -> bool:
        """Whether each part runs or is known not to."""
        return bool(self.health) and not self.starting and self.store["status"] == "ready"

    def show(self, console: Console) -> None:
        """Shows what it waits for."""
        if self.starting:
            total = len(self.deployments)
            console.progress("processes and weights", total - len(self.starting), total)
        elif self.store["status"] != "ready":
            stage = self.store.get("message") or self.store["status"]
            console.progress(f"store: {stage}", *self.store.get("rows", ()))

    def _without_room(self) -> dict[str, str]:
        missing = shortages(APPLICATION)
        now = time.monotonic()
        if not missing:
            self._had_room = now
        return missing if now - self._had_room > _ROOM_S else {}


def ask_health(url: str) -> dict[str, Any]:
    """What the server says of itself; nothing while it says nothing."""
    try:
        # Never by a proxy that the environment names for the world outside.
        response = httpx.get(f"{url}/health/ready", timeout=5, trust_env=False)
        health: dict[str, Any] = response.json()
    except (httpx.HTTPError, ValueError):
        return {}
    return health if "status" in health else {}  # an error is no answer to it


def _give_up(what: str, reasons: Mapping[str, str], console: Console) -> NoReturn:
    more = [f"more is in {console.log}"] if console.log is not None else []
    sys.exit("\n".join([what, *_lines(reasons), *more]))


def _lines(reasons: Mapping[str, str]) -> list[str]:
    return [f"  {name}: {reason}" for name, reason in reasons.items()]
