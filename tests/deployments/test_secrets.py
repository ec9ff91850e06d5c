"""Promise: a configuration holds the name of a secret, and nothing ever shows its value."""

import json
import pickle

import pytest
from pydantic import BaseModel, ValidationError

from deployments.secrets import Secret

VALUE = "sk-real-and-secret"


class Section(BaseModel):
    api_key: Secret | None = None


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> Section:
    monkeypatch.setenv("MY_KEY", VALUE)
    return Section.model_validate({"api_key": "${MY_KEY}"})


def test_a_reference_is_read_where_it_is_used(section: Section) -> None:
    assert section.api_key is not None
    assert section.api_key.resolve_key(needed_by="model 'm'", runs="its replica") == VALUE


def test_a_reference_is_shown_and_sent_as_it_was_written(section: Section) -> None:
    assert json.loads(section.model_dump_json()) == {"api_key": "${MY_KEY}"}
    assert Section.model_validate(section.model_dump()) == section
    assert pickle.loads(pickle.dumps(section)) == section
    shown = [repr(section), str(section), f"{section.api_key}", section.model_dump_json()]
    assert all(VALUE not in text for text in shown)
    assert all(VALUE.encode() not in pickle.dumps(each) for each in (section, section.api_key))


@pytest.mark.parametrize("literal", [VALUE, "$MY_KEY", "${MY KEY}", "x${MY_KEY}", "", 7, ["${A}"]])
def test_a_literal_is_refused_with_the_line_to_write(literal: object) -> None:
    with pytest.raises(ValidationError) as error:
        Section.model_validate({"api_key": literal})
    (fault,) = error.value.errors(include_url=False, include_input=False)
    assert fault["loc"] == ("api_key",)
    assert "write api_key: ${MY_KEY}" in fault["msg"]
    assert VALUE not in str(fault)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "is not set where its replica runs"),
        ("", "is empty where its replica runs"),
        ("two words", "white space"),
        ("sk-real\n", "white space"),
        ("schlüssel", "not ASCII"),
    ],
)
def test_a_variable_that_is_not_a_key_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str | None, why: str
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ValueError, match=why) as error:
        Secret("MY_KEY").resolve_key(needed_by="model 'm'", runs="its replica")
    assert str(error.value).startswith("model 'm' needs the environment variable MY_KEY, which ")
    assert not value or value not in str(error.value)
