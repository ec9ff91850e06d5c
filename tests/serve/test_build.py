"""Promise: a configuration becomes the right deployments, and what changes in place is no part of
what needs a restart."""

from typing import Any

import pytest

from deployments.config import ModelConfig
from serve.app import build, deployment_names, live_settings
from serve.config import (
    DEFAULT_CONFIG,
    AppConfig,
    ConfigError,
    Settings,
    StoreConfig,
    load_config,
)
from serve.routing.prices import Price, prices_of

HOSTED = {"name": "gpt", "backend": "openai"}


def load(*models: dict[str, Any], **llms: object) -> AppConfig:
    return load_config({"llms": {"models": list(models), **llms}})


def test_each_model_is_a_deployment_named_after_it() -> None:
    models = [
        ModelConfig(name=name, backend="x") for name in ("a", "org/b:7b", "org_b_7b", "Router")
    ]
    names = deployment_names(models)
    assert names["a"] == "a"
    assert names["org/b:7b"] == "org_b_7b"
    assert len(set(names.values()) | {"Router"}) == 5
    assert names == deployment_names(models)


def test_hosted_models_share_a_deployment_unless_they_ask_for_their_own() -> None:
    hosted: list[dict[str, Any]] = [
        {"name": "a", "backend": "openai"},
        {"name": "b", "backend": "anthropic"},
        {"name": "c", "backend": "vllm", "hostname": "http://h"},
        {"name": "d", "backend": "openai", "own_deployment": True},
        {"name": "e", "backend": "openai", "autoscaling": {"max_replicas": 2}},
    ]
    config = load(*hosted, {"name": "LiteLLM", "backend": "hflocal"})
    names = deployment_names(config.llms.models)
    assert names | {"LiteLLM": ""} == {
        "a": "LiteLLM",
        "b": "LiteLLM",
        "c": "Endpoints",
        "d": "d",
        "e": "e",
        "LiteLLM": "",
    }
    assert names["LiteLLM"].startswith("LiteLLM-")
    settings = live_settings(config)
    assert settings["LiteLLM"] == {"models": hosted[:2]}
    assert settings["Endpoints"] == {"models": [hosted[2]]}
    assert settings["Router"]["models"] == [*hosted[:3], "d", "e", "LiteLLM"]


def test_hosted_models_in_the_router_have_no_deployment() -> None:
    models = [HOSTED, {"name": "c", "backend": "vllm", "hostname": "http://h"}]
    config = load(*models, hosted={"in_router": True})
    settings = live_settings(config)
    assert settings.keys() == {"Router"}
    assert settings["Router"]["models"] == models
    assert settings["Router"]["fixed"] != live_settings(load(*models))["Router"]["fixed"]
    with pytest.raises(ConfigError, match=r"hosted: .*`server\.autoscaling`"):
        load(HOSTED, hosted={"in_router": True, "autoscaling": {"max_replicas": 2}})


def test_what_changes_in_place_is_no_part_of_the_digest_of_the_rest() -> None:
    def digest(*models: dict[str, Any], **more: Any) -> str:
        config = load_config({"llms": {"models": list(models), **more.pop("llms", {})}, **more})
        return str(live_settings(config)["Router"]["fixed"])

    before = digest(HOSTED)
    assert digest({**HOSTED, "timeout": 9}, {"name": "more", "backend": "openai"}) == before
    assert digest(HOSTED, llms={"router": {"performance_requirement": 0.1}}) == before
    for changed in (
        digest({**HOSTED, "own_deployment": True}),
        digest(HOSTED, {"name": "e", "backend": "vllm", "hostname": "http://h"}),
        digest(HOSTED, server={"allow_anonymous": True}),
        digest(HOSTED, llms={"store": {"most_queries": 100}}),
    ):
        assert changed != before


def test_the_graph_is_built_from_a_file_or_inline() -> None:
    build({"config": str(DEFAULT_CONFIG)})
    build({"llms": {"models": [HOSTED]}})
    with pytest.raises(ConfigError, match="not both"):
        build({"config": "x", "llms": {}})


PRICED = {**HOSTED, "model": "gpt-4o-mini"}


def test_prices_come_from_the_config_or_litellms_list() -> None:
    listed = {"name": "a", "backend": "openai", "model": "gpt-5"}
    own = {**listed, "name": "b", "cost_per_input_token": 1, "cost_per_output_token": 2}
    config = load(listed, own, {**HOSTED, "model": "of-nobodys-list"})
    prices = prices_of(config.llms.models)
    assert prices.keys() == {"a", "b"}
    assert prices["a"].cached == pytest.approx(prices["a"].input / 10)
    assert prices["b"] == Price(1, 2)


def test_a_serve_config_may_override_options_of_the_router() -> None:
    # Ray Serve turns a deployment's options into plain values where some are overridden.
    smart = {"llms": {"models": [PRICED], "router": {"strategy": "smart"}}}
    options = build(smart)._bound_deployment._deployment_config.model_dump()
    (store,) = [a for a in options["deployment_actors"] if a["name"] == "store"]
    StoreConfig.model_validate(store["init_kwargs"]["store"])
    Settings.model_validate(options["user_config"])


def test_the_router_reserves_no_resources_so_that_it_always_starts() -> None:
    models = [{"name": "m", "backend": "openai"}]
    deployment = build({"llms": {"models": models}})._bound_deployment
    assert deployment.ray_actor_options is not None
    assert deployment.ray_actor_options["num_cpus"] == 0
