"""Promise: a wrong key of the router, the store or the server is refused by its path."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from sqlalchemy import make_url

from serve.app import build
from serve.config import (
    AppConfig,
    ConfigError,
    RouterConfig,
    ScoringConfig,
    Settings,
    StoreConfig,
    load_config,
)

HOSTED = {"name": "gpt", "backend": "openai"}
ENGINE = {"name": "own", "backend": "vllm"}
PRICED = {**HOSTED, "model": "gpt-4o-mini"}


def load(*models: dict[str, Any], **llms: object) -> AppConfig:
    return load_config({"llms": {"models": list(models), **llms}})


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"router": {"strategy": "best"}}, "llms.router.strategy"),
        ({"router": {"performance_requirement": 1.5}}, "llms.router.performance_requirement"),
        ({"router": {"n_similar": 0}}, "llms.router.n_similar"),
        ({"router": {"query": "first"}}, "llms.router.query"),
        ({"router": {"scoring": {"share": 1.5}}}, "llms.router.scoring.share"),
        ({"router": {"scoring": {"prompt": "{query} {answer}"}}}, "llms.router.scoring"),
        ({"router": {"scoring": {"judge": "gpt", "prompt": "{query}"}}}, "llms.router.scoring"),
        ({"store": {"most_queries": 0}}, "llms.store.most_queries"),
        ({"store": {"most_days": 1}}, "llms.store.most_days"),
        ({"store": {"half_life_days": 0}}, "llms.store.half_life_days"),
        ({"store": {"half_life_days": -7}}, "llms.store.half_life_days"),
        ({"store": {"half_life_days": float("inf")}}, "llms.store.half_life_days"),
        ({"store": {"half_life_days": "week"}}, "llms.store.half_life_days"),
        ({"store": {"path": "x"}}, "llms.store.path"),
        ({"store": {"url": "mysql://host/name"}}, "llms.store.url"),
        ({"store": {"url": "store.db"}}, "llms.store.url"),
        ({"store": {"history": ["a/x.json", "b/x.jsonl"]}}, "llms.store.history"),
    ],
)
def test_a_fault_outside_the_models_is_named_with_its_key(
    section: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load(PRICED, **section)


def test_a_literal_password_is_refused_and_not_repeated() -> None:
    for url in (
        "postgresql://user:hunter2@host/name",
        "postgresql://user:hunter/2@host/name",
        "postgresql://user:${A}hunter2@host/name",
        "postgresql://host/name?user=a&password=hunter2",
        "postgresql://host/name?sslpassword=hunter2",
        "postgresql://host/name?passfile=/hunter2",
        "postgresql://host/name?options=-c%20x.key%3Dhunter2",
        "postgresql://host/name?sslmode=require&unknown=hunter2",
        "postgresql://host/name?password=${A}&password=hunter2",
        "postgresql://user:${A}@hunter2@host/name",
        "postgresql://user:${A}@host:hunter2/name",
        "sqlite:////store.db?key=hunter2",
    ):
        with pytest.raises(ConfigError, match=r"llms\.store\.url") as error:
            load(PRICED, store={"url": url})
        assert "hunter" not in str(error.value)
    for url in (
        "postgresql://user:${PASSWORD}@host/name",
        "postgresql://host/name?sslmode=verify-full&sslrootcert=/ca.pem&sslpassword=${PASSWORD}",
        "${STORE_URL}",
        "sqlite:////a/b.db",
    ):
        store = load(PRICED, store={"url": url}).llms.store
        assert store is not None
        assert store.url == url


def test_the_stores_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    store = {"url": "sqlite:///store.db", "history": "./past.jsonl"}
    path.write_text(yaml.safe_dump({"llms": {"models": [PRICED], "store": store}}))
    loaded = load_config({"config": str(path)}).llms.store
    assert loaded is not None
    assert loaded.url == f"sqlite:///{tmp_path}/store.db"
    assert loaded.history == (f"{tmp_path}/past.jsonl",)


def test_the_stores_url_is_resolved_only_where_it_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    store = StoreConfig(url="postgresql://user:${PASSWORD}@host/name")
    assert store.resolved_url() == "postgresql://user:hunter2@host/name"
    # What stands for a part of the URL must not be read as another part of it.
    secret = "p@ss/w:rd?#%41 ü"
    monkeypatch.setenv("PASSWORD", secret)
    assert make_url(store.resolved_url()).password == secret
    assert make_url(store.resolved_url()).host == "host"
    with_parameter = StoreConfig(url="postgresql://host/name?sslmode=require&password=${PASSWORD}")
    assert make_url(with_parameter.resolved_url()).query["password"] == secret
    monkeypatch.setenv("STORE_URL", "postgresql://user:p%40ss@host/name?sslmode=require")
    whole = StoreConfig(url="${STORE_URL}")
    assert whole.resolved_url() == "postgresql://user:p%40ss@host/name?sslmode=require"
    monkeypatch.setenv("HOST", "db:5432")  # a host has no characters to encode, but may have a port
    placed = make_url(StoreConfig(url="postgresql://user:${PASSWORD}@${HOST}/name").resolved_url())
    assert (placed.host, placed.port) == ("db", 5432)
    monkeypatch.delenv("PASSWORD")
    with pytest.raises(ValueError, match="PASSWORD"):
        store.resolved_url()
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert StoreConfig().resolved_url() == "sqlite:////state/llm-cores-on-ray-serve/store.db"


HASH = "ab" * 32


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"keys": [{"name": "a", "key": "sk-literal"}]}, "server.keys.0.key: must name an env"),
        ({"keys": [{"name": "a"}]}, "either `key: ${MY_KEY}` or `sha256`"),
        ({"keys": [{"name": "a", "key": "${A}", "sha256": HASH}]}, "either `key: ${MY_KEY}`"),
        ({"keys": [{"name": "a", "sha256": "ab"}]}, "server.keys.0.sha256"),
        ({"keys": [{"name": "a", "sha256": HASH, "models": []}]}, "server.keys.0.models"),
        ({"keys": [{"name": "a", "sha256": HASH, "models": ["none"]}]}, "no model 'none'"),
        ({"keys": [{"name": "a", "sha256": HASH}] * 2}, "two keys are called 'a'"),
        (
            {"keys": [{"name": "a", "sha256": HASH, "requests_per_minute": 0}]},
            "server.keys.0.requests_per_minute",
        ),
        ({"keys": [{"name": "a", "sha256": HASH}], "allow_anonymous": True}, "exclude each other"),
        ({"cors_origins": ["example.com"]}, "server.cors_origins.0"),
        ({"cors_origins": ["https://example.com/"]}, "server.cors_origins.0"),
        ({"max_concurrent_requests": 0}, "server.max_concurrent_requests"),
        ({"body_timeout": 0}, "server.body_timeout"),
    ],
)
def test_a_wrong_server_section_is_refused(server: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config({"llms": {"models": [HOSTED]}, "server": server})
    assert says in str(error.value)
    assert "sk-literal" not in str(error.value)


def test_a_keys_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("llms: {models: [{name: m, backend: openai}]}\nserver: {keys_file: keys.yaml}")
    server = load_config({"config": str(path)}).server
    assert server.keys_file == str(tmp_path / "keys.yaml")
    assert server.requires_keys
    path.write_text("llms: {models: [{name: m, backend: openai}]}\nserver: {keys_file: /k.yaml}")
    assert load_config({"config": str(path)}).server.keys_file == "/k.yaml"


def test_a_key_may_ask_for_an_adapter_by_its_name() -> None:
    key = {"name": "a", "sha256": HASH, "models": ["own:sql"]}
    engine = {**ENGINE, "adapters": {"sql": "my-org/sql"}}
    assert load_config({"llms": {"models": [engine]}, "server": {"keys": [key]}})


def test_settings_keep_configured_values_for_what_they_leave_out() -> None:
    configured = RouterConfig(strategy="smart", n_similar=8)
    prices = {"m": (1.0, 2.0)}
    assert Settings.over(configured, {"prices": prices}) == Settings(
        router=configured, prices=prices
    )
    router = Settings.over(configured, {"router": {"performance_requirement": 0.9}}).router
    assert router == configured.model_copy(update={"performance_requirement": 0.9})
    # Also what is said to be as it would be by default.
    assert Settings.over(configured, {"router": {"n_similar": 16}}).router.n_similar == 16
    with pytest.raises(ValidationError):
        Settings.over(configured, {"router": {"strategy": "cleverest"}})


def test_live_settings_replace_how_answers_are_scored_as_a_whole() -> None:
    configured = RouterConfig(scoring=ScoringConfig(judge="gpt", share=0.5))
    assert Settings.over(configured, {}).router.scoring == configured.scoring
    changed = Settings.over(configured, {"router": {"scoring": {"judge": "gpt"}}})
    assert changed.router.scoring == ScoringConfig(judge="gpt")
    assert Settings.over(configured, {"router": {"scoring": None}}).router.scoring is None


def test_a_judge_is_a_model_that_answers_and_has_a_store_for_its_scores() -> None:
    judged = {"scoring": {"judge": "gpt"}}
    assert load(PRICED, router={**judged, "strategy": "smart"})
    assert load(PRICED, router=judged, store={})
    assert load(PRICED, router={"scoring": {}}, store={})
    with pytest.raises(ConfigError, match="judge 'gpt-5' must be a model"):
        load(PRICED, router={"scoring": {"judge": "gpt-5"}}, store={})
    embeds = {**PRICED, "name": "vectors", "task": "embedding"}
    with pytest.raises(ConfigError, match="judge 'vectors' must be a model"):
        load(PRICED, embeds, router={"scoring": {"judge": "vectors"}}, store={})
    with pytest.raises(ConfigError, match=r"needs a store for its scores; .* `llms\.store`"):
        load(PRICED, router=judged)


def test_partial_autoscaling_of_the_embedder_keeps_our_other_defaults() -> None:
    store = load(PRICED, store={"embedder": {"min_replicas": 2}}).llms.store
    assert store is not None
    assert (store.embedder.min_replicas, store.embedder.max_replicas) == (2, 4)


def test_smart_routing_brings_a_store_and_sequential_none() -> None:
    assert load(PRICED, router={"strategy": "smart"}).llms.store is not None
    assert load(PRICED).llms.store is None
    assert load(PRICED, store={"most_queries": 5}).llms.store is not None


def test_a_model_without_a_price_is_refused_only_in_smart_routing() -> None:
    own = {"name": "own", "backend": "vllm", "hostname": "http://localhost:8091"}
    build({"llms": {"models": [own]}})
    smart = {"llms": {"models": [PRICED, own], "router": {"strategy": "smart"}}}
    with pytest.raises(ConfigError, match=r"llms\.models\.1: model 'own' has no price"):
        build(smart)
    half = {**own, "cost_per_input_token": 1e-7}
    with pytest.raises(ConfigError, match=r"llms\.models\.0: model 'own' has only one of its two"):
        build({"llms": {"models": [half], "router": {"strategy": "smart"}}})


def test_scores_age_only_where_a_half_life_is_given() -> None:
    assert StoreConfig().half_life_days is None
    store = load(PRICED, store={"half_life_days": 30}).llms.store
    assert store is not None
    assert store.half_life_days == 30
