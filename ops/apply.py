"""Applies a changed configuration to a running application: `python -m ops.apply my.yaml`.

Hosted models, routing settings and prices change in place, without a new process and without a lost
request. Anything else needs new processes, and is only done with `--restart`.
"""

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from deployments.registry import SHARED
from ops.cli.app import alone
from ops.ray_internals import deploy_applications, serve_details
from serve.app import live_settings
from serve.config import AppConfig, ConfigError, load_config, read_config
from serve.http.server import ROUTER
from serve.preflight import checked

_PERIOD_S, _PATIENCE_S = 0.2, 600.0


def apply(file: str, *, name: str | None, address: str, restart: bool) -> None:
    """Prints what changes and how long it took; exits with 1 if it can't be applied.

    Args:
        file: a YAML file with `llms:`.
        name: the application's; None if only one is running.
        address: the Ray cluster's; "auto" for this machine's.
        restart: start new processes if needed.
    """
    written = {"config": file}
    try:
        config, raw = checked(written), read_config(written)
    except ConfigError as error:
        sys.exit(str(error))
    try:
        ray.init(
            address=address,
            namespace="serve",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError:
        sys.exit("no Ray cluster is running here; give its --address")
    details = serve_details()
    name = _name(name, details.get("applications", {}))
    running = details["applications"][name]
    began = time.monotonic()
    change = Change.between(running, config)
    print(*change.lines(), sep="\n")
    if change.needs_restart and not restart:
        sys.exit("nothing was changed; `--restart` applies it")
    # What failed to start is started anew, even if nothing else has changed since.
    restart = change.needs_restart or (restart and running["status"] != "RUNNING")
    deploy_applications(
        deployed(details["applications"], name, change.settings, raw if restart else None),
        details.get("target_capacity"),
    )
    _wait(name, change.settings[ROUTER])
    print(f"applied in {time.monotonic() - began:.1f} s")


@dataclass(frozen=True)
class Change:
    """From a running application to a configuration.

    Attributes:
        settings: the new `user_config` of each deployment that takes one.
        before: the Router's `user_config` now.
    """

    settings: Mapping[str, Mapping[str, Any]]
    before: Mapping[str, Any]

    @classmethod
    def between(cls, running: Mapping[str, Any], config: AppConfig) -> "Change":
        """What has changed.

        Args:
            running: the application's details.
            config: the configuration.
        """
        router = running["deployments"].get(ROUTER, {}).get("deployment_config", {})
        before = router.get("user_config") or {}
        if not before.get("fixed"):  # written by hand, over the settings of the configuration
            before = {**_configured(running["deployed_app_config"]), **before}
        settings = live_settings(config)
        names = {model.name for model in config.llms.served}
        prices = {name: at for name, at in before.get("prices", {}).items() if name in names}
        return cls({**settings, ROUTER: {**settings[ROUTER], "prices": prices}}, before)

    @property
    def needs_restart(self) -> bool:
        """Whether processes must be replaced."""
        return bool(self.settings[ROUTER]["fixed"] != self.before.get("fixed"))

    def lines(self) -> list[str]:
        """What to tell the operator."""
        before, after = _hosted(self.before.get("models")), _hosted(self.settings[ROUTER]["models"])
        both = before.keys() & after.keys()
        models = {
            "added": after.keys() - before.keys(),
            "changed": {name for name in both if before[name] != after[name]},
            "removed": before.keys() - after.keys(),
        }
        changes = [f"{how}: {', '.join(sorted(names))}" for how, names in models.items() if names]
        if self.settings[ROUTER]["router"] != self.before.get("router"):
            changes.append("changed: llms.router")
        if self.needs_restart:
            changes.append(
                "all processes of the application would be replaced: this changes a model with a "
                "deployment of its own, the first or the last hosted model of a kind, "
                "`llms.hosted`, `llms.store` or `server`"
            )
        return changes or ["nothing has changed"]


def _configured(application: Mapping[str, Any]) -> Mapping[str, Any]:
    """The Router's settings by the configuration that an application was started with; empty if
    that can't be read here."""
    try:
        return live_settings(load_config(application["args"]))[ROUTER]
    except (ConfigError, KeyError):
        return {}


def _hosted(models: Iterable[Any] | None) -> dict[str, Mapping[str, Any]]:
    return {model["name"]: model for model in models or () if isinstance(model, Mapping)}


def _name(given: str | None, applications: Mapping[str, Any]) -> str:
    names = [name for name, app in applications.items() if ROUTER in app["deployments"]]
    if given is None and len(names) == 1:
        given = names[0]
    if given not in names:
        there = ", ".join(names) or "none"
        sys.exit(f"name the application with --name; running: {there}")
    if not _is_declared(applications[given]):
        sys.exit(
            f"the application '{given}' was started by `serve run` without a Serve config file, so "
            "it takes no changes; start it by `make run`, or with such a file (ops/fleet.yaml)"
        )
    return given


def _is_declared(application: Mapping[str, Any]) -> bool:
    """Whether an application was deployed with a Serve config and is not being deleted. The config
    of one that was so before may still be there."""
    return bool(application["source"] == "declarative" and application["status"] != "DELETING")


def deployed(
    applications: Mapping[str, Any],
    name: str,
    settings: Mapping[str, Mapping[str, Any]],
    args: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """All applications as they are to be deployed; others that Serve configs declared would be
    deleted.

    Args:
        applications: their details.
        name: the one that changes.
        settings: its new `user_config`s, by deployment.
        args: its new configuration, if it is to be built anew.
    """
    configs = {
        each: dict(app["deployed_app_config"])
        for each, app in applications.items()
        if _is_declared(app)
    }
    this = configs[name]
    if args is not None:
        this["args"] = args
    options = {
        each["name"]: {key: value for key, value in each.items() if key != "user_config"}
        if each["name"] in {ROUTER, *SHARED}
        else each
        for each in this.get("deployments") or ()
        if each["name"] not in SHARED or each["name"] in settings
    }
    if args is None:  # else the new build has them
        for each, setting in settings.items():
            options[each] = {**options.get(each, {"name": each}), "user_config": dict(setting)}
    this["deployments"] = [each for each in options.values() if each.keys() != {"name"}]
    return list(configs.values())


def _wait(name: str, router: Mapping[str, Any]) -> None:
    """Waits until the application runs with the router's settings."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        app = serve_details().get("applications", {}).get(name)
        if app is None:
            sys.exit(f"the application '{name}' was deleted meanwhile")
        if app["status"] == "DEPLOY_FAILED":
            sys.exit(f"it failed: {app['message']}")
        now = app["deployments"].get(ROUTER, {}).get("deployment_config", {}).get("user_config")
        taken = now and all(now.get(key) == router[key] for key in ("fixed", "models", "router"))
        if app["status"] == "RUNNING" and taken:
            return
        if time.monotonic() > deadline:
            sys.exit(f"not applied within {_PATIENCE_S:g} s: {app['message'] or app['status']}")
        time.sleep(_PERIOD_S)


if __name__ == "__main__":
    alone("apply", "ops.apply")
