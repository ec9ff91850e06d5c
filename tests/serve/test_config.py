"""Promise: a configuration is either valid or refused at the start, with the path of the key."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema
from serve_fixtures import in_repository

from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.vllm.config import EngineConfig
from serve.app import build
from serve.config import (
    DEFAULT_CONFIG,
    AppConfig,
    ConfigError,
    load_config,
)

HOSTED = {"name": "gpt", "backend": "openai"}
SLO = {"max_replicas": 2, "slo": {"ttft_s": 5}}
ENGINE = {"name": "own", "backend": "vllm"}


def load(*models: dict[str, Any], **llms: object) -> AppConfig:
    return load_config({"llms": {"models": list(models), **llms}})


def test_a_section_from_aios_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("""
llms:
  models:
    - name: "gpt-4o-mini"
      backend: "openai"
    - name: "gemini-1.5-flash"
      backend: "google"
    - name: "qwen2.5:7b"
      backend: "ollama"
      hostname: "http://localhost:11434"
    - name: "meta-llama/Llama-3.1-8B-Instruct"
      backend: "huggingface"
      max_gpu_memory: {0: "24GB"}
      eval_device: "cuda:0"
    - name: "served"
      backend: "vllm"
      hostname: "http://localhost:8091/v1"
  router:
    strategy: "sequential"
  log_mode: "console"
  use_context_manager: false
""")
    gpt, gemini, _, llama, served = load_config({"config": str(path)}).llms.models
    assert isinstance(gpt, LiteLLMConfig)
    assert isinstance(gemini, LiteLLMConfig)
    assert gemini.litellm_model == "gemini/gemini-1.5-flash"
    assert isinstance(llama, HuggingFaceConfig)
    assert llama.num_gpus == 1
    assert isinstance(served, EndpointConfig)
    assert served.base_url == "http://localhost:8091/v1"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"backend": "openai"}, "llms.models.0.name: missing"),
        ({"name": "a"}, "llms.models.0.backend: missing"),
        ({**HOSTED, "nmae": "x"}, "llms.models.0.nmae: unknown key"),
        ({**HOSTED, "gpus": 1}, "llms.models.0.gpus: unknown key"),
        ({"name": "a", "backend": "sglang"}, "llms.models.0.hostname: missing"),
        ({"name": "a", "backend": "sglang", "hostname": "box:1"}, "http://host:port"),
        ({**HOSTED, "hostname": "http://me:secret@box"}, "without user, password, query"),
        ({**HOSTED, "hostname": "http://box/v1?key=secret"}, "a key goes into `api_key`"),
        ({**HOSTED, "hostname": "http://box?secret"}, "a key goes into `api_key`"),
        ({**HOSTED, "hostname": "http://box/v1#secret"}, "a key goes into `api_key`"),
        ({**HOSTED, "hostname": "http://box/me:secret@v1"}, "a key goes into `api_key`"),
        ({"name": "a", "backend": "vllm", "hostname": "http://box?key=secret"}, "0.hostname: "),
        ({**HOSTED, "hostname": "http://box:99999"}, "0.hostname: write the server's URL"),
        ({**HOSTED, "hostname": "http://:80"}, "0.hostname: write the server's URL"),
        ({**HOSTED, "hostname": "http://[::1"}, "0.hostname: write the server's URL"),
        ({**HOSTED, "endpoint": "http://box"}, "llms.models.0.endpoint: unknown key"),
        ({**HOSTED, "name": "日本"}, "llms.models.0.name"),
        ({**HOSTED, "name": "a\nb"}, "llms.models.0.name"),
        (None, "llms.models.0"),
        (
            {"name": "a", "backend": "huggingface", "max_gpu_memory": {0: "1GB", 1: "1GB"}},
            "runs on one GPU",
        ),
        ({**HOSTED, "name": "auto"}, "'auto' is the router's own name"),
        ({**HOSTED, "fallbacks": ["b"]}, "fallback 'b' of model 'gpt'"),
        ({**HOSTED, "autoscaling": {"min_replica": 1}}, "autoscaling.min_replica: unknown key"),
        ({**HOSTED, "autoscaling": {"slo": {"ttft_s": 5}}}, "slo: only a model that runs here"),
        ({**ENGINE, "autoscaling": {"slo": {}}}, "autoscaling.slo.ttft_s"),
        ({**ENGINE, "autoscaling": {"slo": {"ttft_s": 0}}}, "autoscaling.slo.ttft_s"),
        ({**ENGINE, "autoscaling": {"slo": {"ttft": 5}}}, "autoscaling.slo.ttft: unknown key"),
        (
            {**ENGINE, "autoscaling": {"slo": {"ttft_s": 5}, "target_ongoing_requests": 2}},
            "autoscaling: slo and target_ongoing_requests exclude each other",
        ),
        (
            {**ENGINE, "autoscaling": {"slo": {"ttft_s": 5}, "policy": {}}},
            "autoscaling: slo and policy exclude each other",
        ),
        ({**HOSTED, "cost_per_input_token": -1}, "llms.models.0.cost_per_input_token"),
        ({"name": "a", "backend": "hflocal", "eval_device": "gpu"}, "llms.models.0.eval_device"),
        ({**ENGINE, "accelerator_type": "H1OO"}, "llms.models.0.accelerator_type: unknown to Ray"),
        ({**ENGINE, "accelerator_type": "H100", "gpus": 0}, "0.accelerator_type: leave it out"),
        ({**ENGINE, "gpus": -1}, "llms.models.0.gpus"),
        ({**ENGINE, "gpus": 1.5}, "llms.models.0.engine: tensor_parallel_size × pipeline"),
        ({**ENGINE, "gpus": 4, "engine": {"tensor_parallel_size": 2}}, "is 2, but `gpus` is 4"),
        ({**ENGINE, "gpus": 0.5, "engine": {"tensor_parallel_size": 2}}, "but `gpus` is 0.5"),
        ({**ENGINE, "gpus": 4, "engine": {"pipeline_parallel_size": 3}}, "is 3, but `gpus` is 4"),
        ({**ENGINE, "engine": {"tensor_parallel_size": "4"}}, "must be a whole number"),
        ({**ENGINE, "engine": {"served_model_name": "x"}}, "it is the model's `name`"),
        ({**ENGINE, "engine": {"data_parallel_size": 2}}, "for more replicas"),
        ({**ENGINE, "engine": {"data_parallel_rank": 1}}, "for more replicas"),
        ({**ENGINE, "engine": {"prefill_context_parallel_size": 2}}, "Ray places workers"),
        ({**ENGINE, "engine": {"nnodes": 2}}, "is set by Ray"),
        ({**ENGINE, "engine": {"hf_token": "hf_secret"}}, "environment variable HF_TOKEN"),
        ({**ENGINE, "gpus": float("inf")}, "llms.models.0.gpus"),
        ({**ENGINE, "adapters": {"a:b": "x"}}, "llms.models.0.adapters.a:b"),
        ({**ENGINE, "adapters": {"a": "s3://b/a"}}, "a: must be a hub name or a folder"),
        ({**ENGINE, "adapters": {"a" * 200: "x"}}, "at most 200 characters"),
        ({**ENGINE, "base": "x"}, "llms.models.0.base: unknown key"),
        ("openai", "llms.models.0: must hold keys"),
        ({**HOSTED, "name": 7}, "llms.models.0.name: must be text; write it in quotes"),
        ({**HOSTED, "fallbacks": "b"}, "llms.models.0.fallbacks: must be a list"),
        ({**HOSTED, "retries": 11}, "llms.models.0.retries: must be less than or equal to 10"),
    ],
)
def test_a_fault_is_named_with_its_key(model: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match="configuration is wrong") as refusal:
        load(model)
    assert says in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        load({**HOSTED, "x": 1}, {"backend": "openai"})
    assert "models.0.x" in str(refusal.value)
    assert "models.1.name" in str(refusal.value)


def test_two_models_with_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two models are called 'gpt'"):
        load(HOSTED, HOSTED)
    with pytest.raises(ConfigError, match="two models are called 'own:a'"):
        load({**ENGINE, "adapters": {"a": "x"}}, {**HOSTED, "name": "own:a"})


def test_a_literal_key_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"api_key: \$\{MY_KEY\}") as refusal:
        load({**HOSTED, "api_key": "sk-canary-123"})
    assert "sk-canary-123" not in str(refusal.value)


def test_a_key_is_read_where_the_replica_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = load({**HOSTED, "api_key": "${CANARY_KEY}"}).llms.models
    assert isinstance(model, LiteLLMConfig)
    with pytest.raises(ValueError, match="CANARY_KEY"):
        model.resolve_api_key()
    monkeypatch.setenv("CANARY_KEY", "sk-1\n")
    with pytest.raises(ValueError, match="holds white space") as refusal:
        model.resolve_api_key()
    assert "sk-1" not in str(refusal.value)
    monkeypatch.setenv("CANARY_KEY", "sk-1")
    assert model.resolve_api_key() == "sk-1"
    assert "sk-1" not in repr(model)


def test_a_file_that_is_missing_or_not_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config({"config": str(tmp_path / "none.yaml")})
    broken = tmp_path / "broken.yaml"
    broken.write_text("llms: [")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config({"config": str(broken)})
    broken.write_text("- a")
    with pytest.raises(ConfigError, match="a mapping with the key `llms`"):
        load_config({"config": str(broken)})
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config({"config": str(broken)})
    with pytest.raises(ConfigError, match="can't be read"):
        load_config({"config": str(tmp_path)})
    with pytest.raises(ConfigError, match="path of a YAML file"):
        load_config({"config": None})


def test_wrong_indentation_is_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for written, says in (
        ("llms:\n\tmodels: []\n", "line 2: .*; indent with spaces, not with tabs"),
        ("llms:\n  models:\n    - name: a\n    backend: b\n", "line 4: .*; is the line indented"),
        (
            "llms:\nmodels:\n  - {name: a, backend: openai}\n",
            "llms: must hold keys, indented below",
        ),
        ("llms: {models: {name: a, backend: openai}}", "llms.models: must be a list"),
        ("llms: {models: []}", "llms.models: must not be empty"),
    ):
        path.write_text(written)
        with pytest.raises(ConfigError, match=says):
            load_config({"config": str(path)})


def test_a_duplicate_key_is_refused_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("llms:\n  models: [{name: a, backend: x}]\n  models: []\n")
    with pytest.raises(ConfigError, match="line 3: the key 'models' is given twice"):
        load_config({"config": str(path)})


def test_a_broken_line_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("llms:\n  api_key: sk-canary: [\n")
    with pytest.raises(ConfigError, match="line") as refusal:
        load_config({"config": str(path)})
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("path", sorted(in_repository("ops").glob("*.yaml")), ids=lambda p: p.name)
@pytest.mark.usefixtures("ray_cluster")  # what places an engine asks Ray
def test_the_serve_configs_that_ship_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(in_repository("."))
    schema = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    for application in schema.applications:
        assert application.import_path == "serve.app:build"
        build(application.args)


def test_partial_autoscaling_keeps_our_other_defaults() -> None:
    server = {"autoscaling": {"min_replicas": 3}}
    config = load_config({"llms": {"models": [HOSTED]}, "server": server})
    assert config.server.autoscaling.min_replicas == 3
    assert config.server.autoscaling.target_ongoing_requests == 100


@pytest.mark.parametrize(
    "more",
    [
        {"server": {"autoscaling": SLO}},
        {"llms": {"models": [HOSTED], "hosted": {"autoscaling": SLO}}},
        {"llms": {"models": [HOSTED], "store": {"embedder": SLO}}},
    ],
    ids=["router", "hosted", "embedder"],
)
def test_what_runs_no_model_has_no_slo(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"slo: .* give target_ongoing_requests"):
        load_config({"llms": {"models": [HOSTED]}, **more})


def test_a_relative_folder_is_relative_to_the_file() -> None:
    small, large = load_config({"config": str(DEFAULT_CONFIG)}).llms.models
    for model in (small, large):
        assert (Path(model.provider_model) / "config.json").is_file()


def test_an_adapters_relative_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    own = {**ENGINE, "adapters": {"sql": "./sql", "hub": "org/adapter"}}
    path.write_text(yaml.safe_dump({"llms": {"models": [own]}}))
    (model,) = load_config({"config": str(path)}).llms.models
    assert isinstance(model, EngineConfig)
    assert model.adapters == {"sql": f"{tmp_path}/sql", "hub": "org/adapter"}


def test_a_vllm_model_is_an_engine_here_or_a_server_elsewhere_by_its_hostname() -> None:
    here, there = load(ENGINE, {**ENGINE, "name": "b", "hostname": "http://box"}).llms.models
    assert isinstance(here, EngineConfig)
    assert isinstance(there, EndpointConfig)


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({}, None),
        ({"engine": {"max_model_len": 4096}}, 4096),
        ({"engine": {"max_model_len": -1}}, None),
        ({"engine": {"max_model_len": 4096}, "context_window": 2048}, 2048),
    ],
)
def test_an_engines_context_window_is_what_it_is_started_with(
    fields: dict[str, Any], window: int | None
) -> None:
    assert load({**ENGINE, **fields}).llms.models[0].window == window


def test_an_adapter_is_like_its_model_except_for_its_name() -> None:
    own = {**ENGINE, "adapters": {"sql": "x"}, "cost_per_input_token": 1e-7, "timeout": 60}
    model, adapter = load(own).llms.served
    assert adapter.name == "own:sql"
    assert (adapter.cost_per_input_token, adapter.timeout) == (1e-7, 60)
    assert (model.parent, adapter.parent) == (None, "own")


@pytest.mark.parametrize(
    ("extra", "able"),
    [
        ({}, {"json"}),
        ({"engine": {"tool_call_parser": "hermes"}}, {"json", "tools"}),
        ({"engine": {"tool_call_parser": "hermes", "enable_auto_tool_choice": False}}, {"json"}),
        ({"capabilities": ["images"]}, {"images"}),
    ],
)
def test_an_engine_supports_tools_if_it_can_parse_them(
    extra: dict[str, Any], able: set[str]
) -> None:
    (model,) = load({**ENGINE, **extra}).llms.models
    assert model.abilities == able


@pytest.mark.parametrize(
    ("name", "model"), [("m", "gemini/m"), ("gemini/m", "gemini/m"), ("a/m", "gemini/a/m")]
)
def test_a_provider_prefix_is_not_doubled(name: str, model: str) -> None:
    assert LiteLLMConfig(name=name, backend="gemini").litellm_model == model


@pytest.mark.parametrize(
    ("backend", "model", "thinks"),
    [
        ("openai", "o3", True),
        ("openai", "openai/gpt-5", True),
        ("google", "gemini-2.5-pro", True),
        ("openai", "gpt-4o-mini", False),
        ("openai", "gpt-5.1", False),  # only when it is asked to
        ("anthropic", "claude-sonnet-4-5", False),  # likewise
        ("openai", "of-nobodys-list", False),
    ],
)
def test_a_model_that_is_listed_as_a_reasoner_may_think(
    backend: str, model: str, thinks: bool
) -> None:
    config = LiteLLMConfig(name="m", backend=backend, model=model)
    assert config.thinking_seconds(None) == (120 if thinks else 0)
    assert config.thinking_seconds("low") == 120
    assert config.thinking_seconds("none") == 0
    said = LiteLLMConfig(name="m", backend=backend, model=model, thinking_timeout=300)
    assert said.thinking_seconds(None) == said.thinking_seconds("low") == 300


def test_resources_follow_the_backend() -> None:
    hosted = LiteLLMConfig(**HOSTED)
    assert "num_gpus" not in hosted.ray_actor_options
    assert hosted.max_ongoing_requests >= 100
    for extra, gpus in (({}, 0), ({"eval_device": "cuda:0"}, 1), ({"gpus": 0.5}, 0.5)):
        config = HuggingFaceConfig(name="h", backend="huggingface", **extra)
        assert config.ray_actor_options["num_gpus"] == gpus


def test_a_model_is_identified_by_what_is_behind_its_name() -> None:
    def identity(**model: object) -> str:
        return load({"name": "m", **model}).llms.models[0].identity

    assert identity(backend="openai", model="gpt-4o") == "openai/gpt-4o"
    assert identity(backend="google", model="gemini/gemini-2") == "gemini/gemini-2"
    assert identity(backend="openai") != identity(backend="openai", model="gpt-4o")
    # Where it runs doesn't make it another one.
    engine = identity(backend="vllm", model="Qwen/Qwen3-8B", gpus=0)
    assert engine == identity(backend="vllm", model="Qwen/Qwen3-8B", hostname="http://h") != ""
    here = identity(backend="hflocal", model="/here/models/demo-small")
    assert here == identity(backend="huggingface", model="/there/models/demo-small")
    assert here != identity(backend="huggingface", model="/here/others/demo-small")


def test_an_adapter_is_identified_by_its_model_and_its_weights() -> None:
    def identity(model: str, adapter: str) -> str:
        adapted = load({"name": "m", "backend": "vllm", "model": model, "adapters": {"a": adapter}})
        return adapted.llms.served[1].identity

    assert identity("org/base", "org/sql") == "vllm/org/base+org/sql"
    assert identity("org/base", "org/other") != identity("org/base", "org/sql")
