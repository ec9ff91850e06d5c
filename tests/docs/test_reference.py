"""Promise: the documentation names every key of the configuration, and says what it means."""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel
from serve_fixtures import in_repository

from deployments.config import SLO, Autoscaling, Circuit, ModelConfig
from deployments.registry import KINDS, named
from ops import reference
from serve.config import AppConfig, Settings


def sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section and those within it, as the types of its keys tell; of models, each kind."""
    yield section
    for field in section.model_fields.values():
        types = [field.annotation]
        while types:
            kind = types.pop()
            types += get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Autoscaling:
                yield from sections(kind)


SECTIONS = {
    *sections(AppConfig),
    Settings,
    Circuit,
    SLO,
    *(named(kind.config) for kind in KINDS.values()),
}


@pytest.mark.parametrize("section", sorted(SECTIONS, key=str), ids=lambda section: section.__name__)
def test_each_key_says_what_it_means(section: type[BaseModel]) -> None:
    undescribed = [name for name, field in section.model_fields.items() if not field.description]
    assert undescribed == [], "write a docstring below the field"


def test_each_section_has_a_table() -> None:
    shown = {
        *reference.SECTIONS.values(),
        ModelConfig,
        *(named(kind.config) for kind in KINDS.values()),
    }
    assert SECTIONS - {AppConfig} <= shown
    pages = [in_repository(f"docs/{page}.md") for page in ("configuration", "autoscaling")]
    text = "".join(page.read_text("utf-8") for page in pages)
    for name in reference.configuration():
        assert f"_generated/keys-{name}.md" in text


def test_a_table_tells_type_bounds_default_and_meaning() -> None:
    table = reference.configuration()["model"]
    row = "| `retries` | integer, 0 to 10 | 2 | How often one request may ask the model again. |"
    assert row in table.splitlines()


def test_each_path_and_each_error_is_named() -> None:
    endpoints, errors = reference.endpoints(), reference.errors()
    for path in ("POST /v1/chat/completions", "POST /v1/route", "GET /health/ready"):
        assert f"| `{path}` |" in endpoints
    for error in reference.error_classes():
        if error.__module__.startswith("deployments."):
            assert f"| {error.status} | `{error.code}` |" in errors


def test_each_metric_is_named() -> None:
    rooms = (in_repository("serve"), in_repository("deployments"))
    sources = [path.read_text("utf-8") for room in rooms for path in room.rglob("*.py")]
    metrics = {name for text in sources for name in re.findall(r'"(llm_router_\w+)"', text)}
    page = in_repository("docs/operations.md").read_text("utf-8")
    assert metrics == set(re.findall(r"^\| `(llm_router_\w+)` \|", page, re.MULTILINE))
