"""Promise: what can be known to fail is reported before anything starts, all in one message."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from serve_fixtures import DEMO_MODELS, in_repository

from deployments.backends.litellm import catalogue as litellm_catalogue
from deployments.backends.litellm import patches
from deployments.registry import unknown_backend
from ops.ports import free_port
from serve import preflight
from serve.access.keys import new_key
from serve.app import build
from serve.config import DEFAULT_CONFIG, ConfigError
from serve.preflight import address_faults, inspect

PRICED = {"name": "gpt", "backend": "openai", "model": "gpt-4o-mini"}
SMART = {"strategy": "smart"}


def all_faults(*models: dict[str, Any], server: Any = None, **llms: Any) -> list[str]:
    found = inspect({"llms": {"models": list(models), **llms}, "server": server or {}})
    return [*found.faults, *found.faults_here]


def test_litellms_files_agree_with_litellm() -> None:
    import litellm  # which deployments.backends.litellm has set up

    assert litellm_catalogue.providers() == patches.providers()
    assert "did you mean 'openai'?" in (unknown_backend("OpenAI") or "")
    listed = litellm_catalogue.models()
    assert {name: listed[name] for name in litellm.model_cost} == litellm.model_cost


def test_a_valid_configuration_has_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", new_key())
    keyed = {**PRICED, "api_key": "${SET}"}
    assert all_faults(keyed, router=SMART, server={"keys": [{"name": "a", "key": "${SET}"}]}) == []
    found = inspect({"config": str(DEFAULT_CONFIG)})
    assert found.config
    assert [*found.faults, *found.faults_here] == []


@pytest.mark.parametrize(
    ("model", "llms", "says"),
    [
        (
            {"name": "a", "backend": "opnai"},
            {},
            "llms.models.1.backend: unknown backend 'opnai'; did you mean 'openai'?",
        ),
        ({**PRICED, "name": "a", "api_key": "${UNSET}"}, {}, "llms.models.1.api_key: model 'a' "),
        (
            {"name": "a", "backend": "vllm", "hostname": "http://h"},
            {"router": SMART},
            "llms.models.1: model 'a' has no price",
        ),
        (
            {"name": "a", "backend": "huggingface", "model": "/none/such"},
            {},
            "llms.models.1.model: there is no folder /none/such",
        ),
        (
            {**PRICED, "name": "a"},
            {"store": {"url": "postgresql://u:${UNSET}@h/d"}},
            "llms.store.url: the store's URL needs the environment variable UNSET",
        ),
        (
            {**PRICED, "name": "a"},
            {"store": {"history": ["/none/such.jsonl"]}},
            "llms.store.history: there is no file /none/such.jsonl",
        ),
        (
            {**PRICED, "name": "a"},
            {"store": {"history": [__file__]}},
            "a history must be a .json, .jsonl or .parquet file",
        ),
    ],
)
def test_a_fault_is_reported_with_its_key(model: Any, llms: Any, says: str) -> None:
    (fault,) = all_faults(PRICED, model, **llms)
    assert says in fault


def test_all_faults_are_reported_at_once_also_beside_a_wrong_key() -> None:
    faults = all_faults(
        {**PRICED, "modle": "x"},
        {"name": "b", "backend": "opnai", "api_key": "${UNSET}"},
        {"name": "c", "backend": "vllm", "hostname": "http://h"},
        router=SMART,
        store={"history": "/none/such.jsonl"},
        server={"keys": [{"name": "team", "key": "${UNSET}"}]},
    )
    assert [fault.partition(": ")[0] for fault in faults] == [
        "llms.models.0.modle",
        "llms.models.1.backend",
        "llms.models.2",
        "llms.models.1.api_key",
        "llms.store.history",
        "server.keys",
    ]


def test_a_wrong_key_of_the_router_does_not_hide_a_missing_price() -> None:
    model = {"name": "a", "backend": "vllm", "hostname": "http://h"}
    faults = all_faults(model, router={**SMART, "n_similar": 0})
    assert [fault.partition(": ")[0] for fault in faults] == [
        "llms.router.n_similar",
        "llms.models.0",
    ]


def test_callers_keys_and_their_file_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "sk-short")
    monkeypatch.setenv("SET", new_key())
    one, two = ({"name": name, "key": "${SET}"} for name in ("a", "b"))
    for server, says in (
        ({"keys": [{"name": "a", "key": "${SHORT}"}]}, "SHORT, which holds fewer than 32"),
        ({"keys": [one, two]}, "'a' and 'b' are the same key"),
        ({"keys_file": str(tmp_path / "none.yaml")}, "there is no keys file"),
    ):
        (fault,) = all_faults(PRICED, server=server)
        assert says in fault
        assert "sk-short" not in fault


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in an installation without extras.
    for module in (
        "deployments.backends.vllm.config",
        "deployments.backends.huggingface.config",
        "deployments.embedding.encoder",
        "deployments.store.sql.dialects.postgresql",
    ):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    monkeypatch.setenv("SET", "postgresql://h/d")
    store = {"url": "${SET}", "embedding_model": "org/other"}
    backends = ("vllm", "huggingface", "databricks")
    models = [{"name": backend, "backend": backend, **priced()} for backend in backends]
    faults = all_faults(*models, store=store)
    expected = (
        "llms.models.0.backend: a vllm model without `hostname`",
        "llms.models.1.backend: 'huggingface' needs torch, transformers, accelerate, llguidance",
        "llms.models.2.backend: 'databricks' needs the Python module 'databricks.sdk'",
        "needs psycopg",
        "needs sentence-",
    )
    for fault, says in zip(faults, expected, strict=True):
        assert says in fault
        assert "pip install" in fault


def priced() -> dict[str, float]:
    return {"cost_per_input_token": 1e-6, "cost_per_output_token": 1e-6}


def test_what_only_this_machine_lacks_is_logged_for_a_cluster(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.logger, "propagate", True)
    keyed = {**PRICED, "api_key": "${UNSET}"}
    build({"llms": {"models": [keyed]}})
    assert "llms.models.0.api_key" in caplog.text
    wrong = [{**keyed, "backend": "opnai"}, {**keyed, "name": "b", "backend": "grok"}]
    with pytest.raises(ConfigError) as refusal:
        build({"llms": {"models": wrong}})
    assert "llms.models.0.backend" in str(refusal.value)
    assert "llms.models.1.backend" in str(refusal.value)
    assert "UNSET" not in str(refusal.value)


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("127.0.0.1", 99999, "port 99999: must be from 1 to 65535"),
        ("127.0.0.1", 0, "port 0: must be from 1 to 65535"),
        ("no.such.host.invalid", 8000, "host no.such.host.invalid: unknown"),
        ("a" * 70 + ".b", 8000, "unknown"),
        ("192.0.2.1", 8000, "host 192.0.2.1: not an address of this machine"),
    ],
)
def test_an_address_where_the_server_cannot_listen_is_named(
    host: str, port: int, says: str
) -> None:
    (fault,) = address_faults(host, port)
    assert says in fault


def test_a_port_in_use_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (fault,) = address_faults("127.0.0.1", port)
        assert f"port {port} is in use" in fault
    assert list(address_faults("127.0.0.1", free_port())) == []


def test_the_program_reports_everything_before_it_starts(tmp_path: Path) -> None:
    model = {"name": "small", "backend": "huggingface", "model": str(DEMO_MODELS / "demo-small")}
    llms = {
        "models": [model, {"name": "b", "backend": "opnai"}],
        "store": {"history": "./none.json"},
    }
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump({"llms": llms}))
    command = [sys.executable, "-m", "ops.run", "--config", str(file)]
    ended = subprocess.run(
        [*command, "--port", "99999", "--host", "0.0.0.0"],
        cwd=in_repository("."),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    first, *faults = ended.stderr.splitlines()
    assert first == "can't start:"
    assert [fault.split(": ")[0].strip() for fault in faults] == [
        "llms.models.0",
        "llms.models.1.backend",
        "llms.store.history",
        "port 99999",
        "the server would listen on 0.0.0.0 without requiring a key",
    ]


EMBEDS = {**PRICED, "name": "vectors", "model": "text-embedding-3-small", "task": "embedding"}


def test_a_model_that_embeds_needs_no_price_even_for_smart_routing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SET", new_key())
    own = {"name": "own", "backend": "vllm", "hostname": "http://127.0.0.1:9", "task": "embedding"}
    assert all_faults(PRICED, EMBEDS, own, router=SMART) == []
    name = "sentence-transformers/all-MiniLM-L6-v2"
    keys = [{"name": "a", "key": "${SET}", "models": ["vectors", name]}]
    assert all_faults(PRICED, EMBEDS, router=SMART, server={"keys": keys}) == []
    (fault,) = all_faults(PRICED, EMBEDS, server={"keys": keys})  # there is no store
    assert f"there is no model '{name}'" in fault


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"backend": "vllm"},
            r"llms\.models\.1\.task: .*can't embed here; .*hostname",
        ),
        ({"backend": "simulated"}, r"llms\.models\.1\.task: .*can't embed here"),
        ({"fallbacks": ["gpt"]}, "fallbacks: leave it out"),
        ({"capabilities": ["json"]}, "capabilities: leave it out"),
        ({"task": "rerank"}, r"llms\.models\.1\.task"),
        ({"name": "sentence-transformers/all-MiniLM-L6-v2"}, "two models are called"),
    ],
)
def test_what_cannot_embed_is_refused(fields: dict[str, Any], fault: str) -> None:
    assert re.search(fault, "\n".join(all_faults(PRICED, {**EMBEDS, **fields}, store={})))


def test_a_model_that_embeds_is_no_fallback() -> None:
    (fault,) = all_faults({**PRICED, "fallbacks": ["vectors"]}, EMBEDS)
    assert "must be another model in `llms.models` that answers" in fault
