"""Promise: what `ops.apply` deploys is the change and nothing besides."""

import os
import subprocess
import sys
from typing import Any

from serve_fixtures import in_repository

from ops.apply import Change, deployed
from serve.app import live_settings
from serve.config import load_config

LITELLM = {"name": "a", "backend": "openai"}
ENDPOINT = {"name": "e", "backend": "vllm", "hostname": "http://h"}


def settings_of(*models: dict[str, Any], **llms: Any) -> dict[str, dict[str, Any]]:
    return live_settings(load_config({"llms": {"models": list(models), **llms}}))


def application(source: str = "declarative", **details: Any) -> dict[str, Any]:
    """The details of an application, as Ray Serve gives them."""
    config = {"name": "x", "import_path": "m:app", "args": {"llms": {"models": [LITELLM]}}}
    return {
        "source": source,
        "status": "RUNNING",
        "deployed_app_config": {**config, **details.pop("config", {})},
        "deployments": {"Router": {"deployment_config": details}},
    }


def change(before: dict[str, Any], *models: dict[str, Any], **llms: Any) -> Change:
    config = load_config({"llms": {"models": list(models), **llms}})
    return Change.between(application(user_config=before), config)


def test_other_applications_stay_as_they_are() -> None:
    other = application(config={"name": "other"})
    there = {
        "ours": application(config={"name": "ours"}),
        "other": other,
        "by serve.run": application("imperative"),
        "leaving": application() | {"status": "DELETING"},
    }
    ours, same = deployed(there, "ours", settings_of(LITELLM), None)
    assert same == other["deployed_app_config"]
    assert {each["name"] for each in ours["deployments"]} == {"LiteLLM", "Router"}


def test_options_of_deployments_stay_beside_the_new_settings() -> None:
    options = [{"name": "Router", "num_replicas": 3, "user_config": {"prices": {}}}]
    (ours,) = deployed(
        {"ours": application(config={"deployments": options})}, "ours", settings_of(LITELLM), None
    )
    router = next(each for each in ours["deployments"] if each["name"] == "Router")
    assert router == {
        "name": "Router",
        "num_replicas": 3,
        "user_config": settings_of(LITELLM)["Router"],
    }


def test_a_new_build_is_not_held_to_deployments_that_it_no_longer_has() -> None:
    before = settings_of(LITELLM, ENDPOINT)
    options = [{"name": name, "user_config": config} for name, config in before.items()]
    args = {"llms": {"models": [LITELLM]}}
    (ours,) = deployed(
        {"ours": application(config={"deployments": options})}, "ours", settings_of(LITELLM), args
    )
    assert ours["args"] == args
    assert ours["deployments"] == []


def test_what_changes_is_named() -> None:
    before = settings_of(LITELLM)["Router"]
    assert change(before, LITELLM).lines() == ["nothing has changed"]
    routing = change(before, LITELLM, router={"performance_requirement": 0.1})
    assert routing.lines() == ["changed: llms.router"]
    first, *why = change(before, LITELLM, ENDPOINT).lines()
    assert first == "added: e"
    assert "the first or the last hosted model of a kind" in why[0]
    assert change(before, LITELLM, hosted={"autoscaling": {"min_replicas": 2}}).needs_restart


def test_settings_written_by_hand_are_read_over_the_configuration() -> None:
    by_hand = {"prices": {"a": [1e-6, 1e-6], "gone": [1, 1]}}
    applied = change(by_hand, LITELLM, {**LITELLM, "name": "b"})
    assert applied.lines() == ["added: b"]
    assert applied.settings["Router"]["prices"] == {"a": [1e-6, 1e-6]}


def test_the_same_configuration_is_the_same_in_every_process() -> None:
    """Sets have another order in each."""
    model = {**LITELLM, "own_deployment": True, "capabilities": ["tools", "json", "images"]}
    code = (
        "from serve.app import live_settings; from serve.config import load_config; "
        f"print(live_settings(load_config({{'llms': {{'models': [{model}]}}}})))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=in_repository("."),
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    ]
    assert len(set(runs)) == 1
