"""Promise: nothing of another machine is driven unaware, and a run says what was served."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.load.target import checked_config, checked_url, served
from serve.config import ConfigError

SIMULATED = {"name": "here", "backend": "simulated"}
ENDPOINT = {"backend": "vllm", "model": "m"}
PROVIDER = {"name": "provider", "backend": "openai", "api_key": "${TEST_KEY}"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://192.0.2.1:8000", "192.0.2.1 is another machine"),
        ("localhost:8000", "must be like http://localhost:8000"),
        ("http://:8000", "must be like"),
        ("http://localhost:99999", "must be like"),
        ("http://localhost:eighty", "must be like"),
        ("http://localhost:0", "must be like"),
        ("http://user:secret@localhost", "without a user, password"),
        ("http://:secret@localhost:8000", "without a user, password"),
        ("http://localhost:8000?api_key=secret", "query or fragment"),
        ("http://localhost:8000#secret", "query or fragment"),
        ("http://[::1", "must be like"),
    ],
)
def test_a_url_that_must_not_be_driven_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        checked_url(url, remote=False)
    assert "secret" not in str(refused.value)


def test_another_machine_is_driven_if_that_is_wanted() -> None:
    assert checked_url("http://192.0.2.1:8000/v1", remote=True) == "http://192.0.2.1:8000"


def saved(folder: Path, *models: dict[str, Any]) -> str:
    file = folder / "llms.yaml"
    file.write_text(yaml.safe_dump({"llms": {"models": list(models)}}))
    return str(file)


@pytest.mark.parametrize("wanted", [False, True])
def test_models_of_other_machines_are_asked_only_if_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test")
    there = {**ENDPOINT, "name": "there", "hostname": "http://192.0.2.1:8000"}
    file = saved(tmp_path, SIMULATED, there, PROVIDER)
    if wanted:
        assert len(checked_config(file, remote=True)["llms"]["models"]) == 3
        return
    with pytest.raises(ConfigError, match=r"^models .*: there, provider: .*--remote"):
        checked_config(file, remote=False)


def test_models_of_this_machine_are_asked(tmp_path: Path) -> None:
    beside = {**ENDPOINT, "name": "beside", "hostname": "http://localhost:8000"}
    assert checked_config(saved(tmp_path, SIMULATED, beside), remote=False)


def test_a_configuration_that_can_not_be_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't start"):
        checked_config(saved(tmp_path, {"name": "here"}), remote=False)


def test_a_run_says_what_was_served() -> None:
    one = served("a.yaml", {"llms": {"models": [SIMULATED]}})
    other = served("a.yaml", {"llms": {"models": [{**SIMULATED, "places": 2}]}})
    assert (one["config"], len(one["digest"])) == ("a.yaml", 64)
    assert one["digest"] != other["digest"]
    assert one["version"]
    assert one["ray"].startswith("2.")


def test_of_a_service_that_ran_no_configuration_is_known() -> None:
    found = served("ops/demo/llms.yaml", None)
    assert (found["config"], found["digest"]) == (None, None)
