"""Applies a changed configuration to a running application: `python -m ops.apply my.yaml`.

Hosted models, routing settings and prices change in place, without a new process and without a lost
request. Anything else needs new processes, and is only done with `--restart`.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from ops.ray_internals import applications, deploy_applications
from serve.app import live_settings
from serve.config import AppConfig, ConfigError, read_config
from serve.http.ingress import ROUTER
from serve.preflight import checked

_PERIOD_S, _PATIENCE_S = 0.2, 600.0


def main() -> None:
    """Prints what changes and how long it took; exits with 1 if it can't be applied."""
    parser = argparse.ArgumentParser(prog="python -m ops.apply", description=__doc__)
    parser.add_argument("config", help="a YAML file with `llms:`")
    parser.add_argument("--name", help="the application's name, if several are running")
    parser.add_argument("--address", default="auto", help="the Ray cluster's; default: this one's")
    parser.add_argument("--restart", action="store_true", help="start new processes if needed")
    args = parser.parse_args()
    written = {"config": args.config}
    try:
        config, raw = checked(written), read_config(written)
    except ConfigError as error:
        sys.exit(str(error))
    try:
        ray.init(address=args.address, namespace="serve", log_to_driver=False)
    except ConnectionError:
        sys.exit("no Ray cluster is running here; give its --address")
    running = applications()
    name = _name(args.name, running)
    began = time.monotonic()
    change = Change.between(running[name], config)
    print(*change.lines(), sep="\n")
    if change.needs_restart and not args.restart:
        sys.exit("nothing was changed; `--restart` applies it")
    deploy_applications(_deployed(running, name, change, raw))
    _wait(name, change)
    print(f"applied in {time.monotonic() - began:.1f} s")


@dataclass(frozen=True)
class Change:
    """From a running application to a configuration.

    Attributes:
        settings: the new `user_config` of each deployment that takes one.
        needs_restart: whether processes must be replaced.
        before, after: the hosted models that share deployments, by name, as they are written.
    """

    settings: Mapping[str, Mapping[str, Any]]
    needs_restart: bool
    before: Mapping[str, Mapping[str, Any]]
    after: Mapping[str, Mapping[str, Any]]

    @classmethod
    def between(cls, running: Mapping[str, Any], config: AppConfig) -> "Change":
        """What has changed.

        Args:
            running: the application's details.
            config: the configuration.
        """
        router = running["deployments"].get(ROUTER, {}).get("deployment_config", {})
        old: Mapping[str, Any] = router.get("user_config") or {}
        settings = live_settings(config)
        new = settings[ROUTER]
        return cls(
            settings,
            new["fixed"] != old.get("fixed"),
            _hosted(old.get("models") or ()),
            _hosted(new["models"]),
        )

    def lines(self) -> list[str]:
        """What to tell the operator."""
        both = self.before.keys() & self.after.keys()
        models = {
            "added": self.after.keys() - self.before.keys(),
            "changed": {name for name in both if self.before[name] != self.after[name]},
            "removed": self.before.keys() - self.after.keys(),
        }
        changes = [f"{how}: {', '.join(sorted(names))}" for how, names in models.items() if names]
        if self.needs_restart:
            changes.append(
                "a model that runs here, the server or the store has changed: all processes of "
                "the application would be replaced"
            )
        return changes or ["no hosted model has changed"]


def _hosted(models: Any) -> dict[str, Mapping[str, Any]]:
    return {model["name"]: model for model in models if isinstance(model, Mapping)}


def _name(given: str | None, running: Mapping[str, Any]) -> str:
    names = [name for name, app in running.items() if ROUTER in app["deployments"]]
    if given is None and len(names) == 1:
        given = names[0]
    if given not in names:
        there = ", ".join(names) or "none"
        sys.exit(f"name the application with --name; running: {there}")
    if not running[given].get("deployed_app_config"):
        sys.exit(
            f"the application '{given}' was started by `serve run` without a Serve config file, so "
            "it takes no changes; start it by `make run`, or with such a file (ops/fleet.yaml)"
        )
    return given


def _deployed(
    running: Mapping[str, Any], name: str, change: Change, raw: dict[str, Any]
) -> list[dict[str, Any]]:
    """All applications as they are to be deployed: those that are not named would be deleted."""
    configs = {
        each: app["deployed_app_config"]
        for each, app in running.items()
        if app.get("deployed_app_config")
    }
    this = dict(configs[name])
    if change.needs_restart:
        this["args"] = raw
    ours = {**this, "deployments": _with(this.get("deployments") or [], change.settings)}
    return [*({**configs, name: ours}).values()]


def _with(
    options: list[dict[str, Any]], settings: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The options of the deployments in a Serve config, with these settings."""
    by_name = {each["name"]: each for each in options}
    for name, setting in settings.items():
        by_name[name] = {**by_name.get(name, {"name": name}), "user_config": dict(setting)}
    return list(by_name.values())


def _wait(name: str, change: Change) -> None:
    """Waits until every replica has taken its settings."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        app = applications()[name]
        if app["status"] == "DEPLOY_FAILED":
            sys.exit(f"it failed: {app['message']}")
        router = app["deployments"].get(ROUTER, {}).get("deployment_config", {})
        taken = router.get("user_config") == change.settings[ROUTER]
        if app["status"] == "RUNNING" and taken:
            return
        if time.monotonic() > deadline:
            sys.exit(f"not applied within {_PATIENCE_S:g} s: {app['message'] or app['status']}")
        time.sleep(_PERIOD_S)


if __name__ == "__main__":
    main()
