"""Promise: the documentation names every key of the configuration, and says what it means."""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel
from serve_fixtures import in_repository

from deployments.config import SLO, Autoscaling, Circuit, ModelConfig
from deployments.registry import KINDS, named
from deployments.telemetry.instruments import INSTRUMENTS
from ops import reference
from ops.load.profile import Profile
from serve.config import AppConfig, Settings
from serve.telemetry.cluster import KNOWN

BEFORE = "## Names before"


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


def test_each_key_of_a_profile_has_a_meaning_and_each_section_a_table() -> None:
    page = in_repository("docs/load-tests.md").read_text("utf-8")
    shown = {*re.findall(r"_generated/keys-load-(\w+)\.md", page)}
    assert shown == set(reference.load_profile())
    for section in sections(Profile):
        assert section is Profile or section.__name__.lower() in shown
        assert all(field.description for field in section.model_fields.values()), section


def test_each_path_and_each_error_is_named() -> None:
    endpoints, errors = reference.endpoints(), reference.errors()
    for path in ("POST /v1/chat/completions", "POST /v1/route", "GET /health/ready"):
        assert f"| `{path}` |" in endpoints
    for error in reference.error_classes():
        if error.__module__.startswith("deployments."):
            assert f"| {error.status} | `{error.code}` |" in errors


def test_each_metric_is_in_the_table_and_pages_name_no_others() -> None:
    table = reference.metrics()
    known = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert {"llm_replicas", "llm_attempts_total", "gen_ai_client_token_usage"} <= known
    assert len(known) == len(INSTRUMENTS) + len(KNOWN)
    suffix = r"_(sum|count|bucket)"
    for page in (*in_repository("docs").glob("*.md"), in_repository("SECURITY.md")):
        now = page.read_text("utf-8").partition(BEFORE)[0]
        names = r"\b(?:llm_(?:[a-z]+_)*(?:total|seconds)|gen_ai_(?:client|server)(?:_[a-z]+)+)\b"
        for name in re.findall(names, now):
            assert name in known or re.sub(f"{suffix}$", "", name) in known, f"{page}: {name}"


def test_there_is_one_way_to_count() -> None:
    for room in ("serve", "deployments"):
        for path in in_repository(room).rglob("*.py"):
            assert "ray.serve.metrics" not in path.read_text("utf-8"), path
