"""Promise: a backend is one file and one row of the registry; nothing else knows the backends."""

import ast
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from parrot import ParrotBackend, ParrotConfig

from deployments import registry
from deployments.backends.huggingface import config as huggingface_config
from deployments.contract import ChatRequest, merge
from deployments.deploy import deploy
from deployments.errors import UnsupportedParameter
from deployments.registry import KINDS, Kind, kind_of, listed, load, named, parse
from deployments.replicas.model import ServedModel
from deployments.replicas.replica import Replica
from ops import check
from serve.app import build
from serve.config import ConfigError, load_config
from serve.preflight import inspect

ROOT = Path(__file__).parents[2]
MODEL = {"name": "polly", "backend": "parrot", "times": 2}
ROW = Kind(names=("parrot",), config="parrot:ParrotConfig", backend="parrot:ParrotBackend")


@pytest.fixture
def _with_parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KINDS", {**KINDS, "parrot": ROW})


def request(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "hello world"}]
    return ChatRequest.model_validate({"model": "polly", "messages": messages, **fields})


@pytest.mark.usefixtures("_with_parrot")
async def test_a_backend_added_by_one_file_and_one_row_answers() -> None:
    (model,) = load_config({"llms": {"models": [MODEL]}}).llms.models
    assert isinstance(model, ParrotConfig)
    assert isinstance(load(model), ParrotBackend)
    served = ServedModel(model)
    async with aclosing(served.chat(request(max_tokens=3))) as chunks:
        answer = merge([chunk async for chunk in chunks])
    assert (answer.text, answer.finish_reason) == ("hello world hello ", "length")
    with pytest.raises(UnsupportedParameter, match="model 'polly' does not support 'seed'"):
        await anext(served.chat(request(seed=1)))


def test_a_replica_without_the_libraries_of_its_model_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_config, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"model 'qwen'.*llm-cores-on-ray-serve\[local\]"):
        load(parse({"name": "qwen", "backend": "huggingface"}))


@pytest.mark.usefixtures("_with_parrot")
def test_it_is_checked_priced_and_deployed_like_any_other() -> None:
    llms = {"models": [MODEL], "router": {"strategy": "smart"}}
    assert inspect({"llms": llms}).faults == [
        "llms.models.0: model 'polly' has no price, and none is listed for it; smart routing needs "
        "cost_per_input_token and cost_per_output_token (USD for one token)"
    ]
    priced = {**MODEL, "cost_per_input_token": 1e-6, "cost_per_output_token": 1e-6}
    assert inspect({"llms": {**llms, "models": [priced]}}).faults == []
    deployment = deploy(parse(MODEL), "polly")._bound_deployment
    assert deployment.func_or_class is Replica
    assert deployment.init_args == (parse(MODEL),)
    assert build({"llms": {"models": [MODEL]}})
    assert check._needs(parse(MODEL)) == "CPU 0.1: parrot"
    with pytest.raises(ConfigError, match=r"llms\.models\.0\.tims: unknown key"):
        load_config({"llms": {"models": [{**MODEL, "tims": 3}]}})


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ({"backend": "vllm"}, "engine"),
        ({"backend": "vllm", "hostname": "http://h"}, "endpoint"),
        ({"backend": "sglang"}, "endpoint"),
        ({"backend": "hflocal"}, "huggingface"),
        ({"backend": "google"}, "litellm"),
        ({"name": "m"}, "litellm"),
        ("no mapping", "litellm"),
    ],
)
def test_a_name_means_one_kind(model: Any, kind: str) -> None:
    assert kind_of(model) == kind


def test_every_row_can_be_imported_where_its_libraries_are() -> None:
    for kind in KINDS.values():
        for path in (kind.config, kind.backend, kind.listed):
            assert not path or named(path)


def test_the_rows_say_which_backends_embed() -> None:
    for kind in KINDS.values():
        if kind.backend:
            assert hasattr(named(kind.backend), "embed") == kind.embeds


def test_only_models_of_providers_have_listed_prices() -> None:
    assert listed({"name": "m", "backend": "google", "model": "gemini-2.5-flash"})
    assert listed({"name": "gpt-4o-mini"})
    for backend in ("vllm", "sglang", "huggingface", "hflocal"):
        assert listed({"name": "gpt-4o-mini", "backend": backend}) == {}


def test_no_other_file_knows_the_backends() -> None:
    rooms = {path.name for path in (ROOT / "deployments" / "backends").iterdir() if path.is_dir()}
    names = {name for kind in KINDS.values() for name in kind.names}
    elsewhere = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in (*(ROOT / "serve").rglob("*.py"), *(ROOT / "deployments").glob("*.py"))
        for text in _strings(path)
        if text in names
    }
    assert rooms
    assert elsewhere == {f"deployments/registry.py: {name}" for name in names}


def _strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
