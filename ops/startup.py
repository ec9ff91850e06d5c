"""Waits until each model answers or is known to be unable to, and shows meanwhile how far it is."""

import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import httpx
from ray import serve as rayserve
from ray.serve.schema import DeploymentStatusOverview

from ops.console import Console
from serve.availability import messages
from serve.placement import shortages

APPLICATION = "default"

_ROUTER = "Router"
_PERIOD_S = 0.5
# A large model may take long to come and to load; Ray gives an engine an hour.
_STARTUP_S = 3600
# A Ray of one machine doesn't grow: what finds no room on it for so long never will.
_ROOM_S = 15
# How much later than Ray Serve the router may know that a model runs.
_SETTLING_S = 5
_FAILED = ("UNHEALTHY", "DEPLOY_FAILED")


def wait_until_ready(url: str, console: Console) -> None:
    """Waits until the models have settled, and names those that can't answer.

    Raises:
        SystemExit: no model can answer, or the store can't start; the message says why.
    """
    began = had_room = settled = time.monotonic()
    while True:
        deployments = rayserve.status().applications[APPLICATION].deployments
        now, missing = time.monotonic(), shortages(APPLICATION)
        if not missing:
            had_room = now
        lost = _failed(deployments)
        if now - had_room > _ROOM_S:
            lost |= missing
        if _ROUTER in lost:
            _give_up("the start failed", lost, console)
        starting = [
            name
            for name, deployment in deployments.items()
            if deployment.status != "HEALTHY" and name not in lost
        ]
        health = {} if _ROUTER in starting else ask_health(url)
        store = health.get("store", {"status": "ready"})
        if store["status"] == "failed":
            _give_up("the store did not start", {"store": store.get("message", "")}, console)
        if starting or not health or store["status"] != "ready":
            settled = now
        elif health["status"] == "ready":
            return
        elif now - settled > _SETTLING_S:
            lost |= _unavailable(health)
            if health["status"] == "unavailable":
                _give_up("the start failed: no model can answer", lost, console)
            for line in _lines(lost):
                console.line(console.red(line))
            return
        if now - began > _STARTUP_S:
            _give_up(f"not ready after {_STARTUP_S} s", lost, console)
        _show(console, deployments, starting, store)
        time.sleep(_PERIOD_S)


def ask_health(url: str) -> dict[str, Any]:
    """What the server says of itself; nothing while it says nothing."""
    try:
        # Never by a proxy that the environment names for the world outside.
        response = httpx.get(f"{url}/health/ready", timeout=5, trust_env=False)
        health: dict[str, Any] = response.json()
    except (httpx.HTTPError, ValueError):
        return {}
    return health


def _failed(deployments: Mapping[str, DeploymentStatusOverview]) -> dict[str, str]:
    failed = {name: each.message for name, each in deployments.items() if each.status in _FAILED}
    return messages(failed)


def _unavailable(health: Mapping[str, Any]) -> dict[str, str]:
    """Why models can't answer, as the router sees it; it doesn't say where it asks for a key."""
    return {
        name: model["message"] or "not available"
        for name, model in health.get("models", {}).items()
        if not model["available"]
    }


def _show(
    console: Console,
    deployments: Mapping[str, DeploymentStatusOverview],
    starting: list[str],
    store: Mapping[str, Any],
) -> None:
    if starting:
        total = len(deployments)
        console.progress("processes and weights", total - len(starting), total)
    elif store["status"] != "ready":
        console.progress(
            f"store: {store.get('message') or store['status']}", *store.get("rows", ())
        )


def _give_up(what: str, reasons: Mapping[str, str], console: Console) -> NoReturn:
    more = [f"more is in {console.log}"] if console.log is not None else []
    sys.exit("\n".join([what, *_lines(reasons), *more]))


def _lines(reasons: Mapping[str, str]) -> list[str]:
    return [f"  {name}: {reason}" for name, reason in reasons.items()]
