"""Promise: only callers with a known key may call, within its models and its quota."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.keys import create
from serve.access.keys import ANYONE, Keys, hash_of, new_key
from serve.access.quotas import Windows
from serve.config import ConfigError, ServerConfig

KEY = new_key()
MODELS = ["small", "large"]


def keys(*entries: dict[str, Any], **server: object) -> Keys:
    return Keys(ServerConfig.model_validate({"keys": list(entries), **server}), MODELS)


def known(name: str = "team", key: str = KEY, **more: object) -> dict[str, Any]:
    return {"name": name, "sha256": hash_of(key).hex(), **more}


def test_a_key_is_known_by_its_variable_or_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_key()
    monkeypatch.setenv("TEAM_KEY", other)
    ring = keys(known(models=["small"]), {"name": "env", "key": "${TEAM_KEY}"})
    team = ring.caller(KEY)
    assert team
    assert (team.name, team.models) == ("team", frozenset({"small"}))
    env = ring.caller(other)
    assert env
    assert env.name == "env"


@pytest.mark.parametrize(
    "key",
    [None, "", f"{KEY}x", KEY[:-1], f"Bearer {KEY}", hash_of(KEY).hex(), "\udcff", "ü"],
    ids=range(8),  # the key is another one in each process of `pytest -n`
)
def test_an_unknown_key_has_no_caller(key: str | None) -> None:
    assert keys(known()).caller(key) is None


def test_every_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that it takes must not tell which key is known, or how far one is right."""
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    ring = keys(known(), known("second", new_key()), known("third", new_key()))
    for key in (KEY, "wrong", None):
        compared.clear()
        ring.caller(key)
        assert len(compared) == 3


def test_without_keys_anyone_may_call() -> None:
    assert keys().caller(None) is ANYONE
    assert ANYONE.allowed({"small": 1}) == {"small": 1}


def test_a_caller_sees_only_its_models() -> None:
    caller = keys(known(models=["small"])).caller(KEY)
    assert caller
    assert caller.allowed({"small": 1, "large": 2}) == {"small": 1}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([known(models=["none"])], "'team': there is no model 'none'"),
        ([known(), known()], "two keys are called 'team'"),
        ([known(), known("again")], "'team' and 'again' are the same key"),
        ([known(key="")], "the sha256 of 'team' is that of no text"),
        ([{"name": "env", "key": "${UNSET_KEY}"}], "UNSET_KEY, which is not set"),
        ([{"name": "env", "key": "${WEAK_KEY}"}], "WEAK_KEY, which holds fewer than 32"),
        ([{"name": "env", "key": "${ODD_KEY}"}], "ODD_KEY, which holds white space"),
    ],
)
def test_unusable_keys_are_refused_at_the_start(
    entries: list[dict[str, Any]], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAK_KEY", "too-short-to-be-a-secret")
    monkeypatch.setenv("ODD_KEY", "with a space in it, which no header can hold")
    with pytest.raises(ConfigError) as error:
        keys(*entries)
    assert says in str(error.value)
    assert "too-short" not in str(error.value)


def test_a_keys_file_holds_only_hashes(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump([known(models=["large"])]))
    caller = keys(keys_file=str(file)).caller(KEY)
    assert caller
    assert caller.models == frozenset({"large"})
    for content, says in (
        ([{"name": "env", "key": "${A_KEY}"}], "each with its sha256"),
        ([{"name": "env", "key": "sk-literal"}], "0.key: must name an environment variable"),
        ([], "must hold a list of keys"),
        ({"keys": []}, "is wrong"),
        ([known(models=["none"])], "there is no model 'none'"),
    ):
        file.write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigError) as error:
            keys(keys_file=str(file))
        assert says in str(error.value)
        assert "sk-literal" not in str(error.value)
    with pytest.raises(ConfigError, match="there is no keys file"):
        keys(keys_file=str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("options", [[], ["--metrics"]])
def test_a_new_key_is_shown_once_with_its_entry_for_the_server(options: list[str]) -> None:
    command = [sys.executable, "-m", "ops.keys", "team", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    key = next(line.strip() for line in run.stdout.splitlines() if line.startswith("  sk-"))
    entry = yaml.safe_load(run.stdout[run.stdout.index("- name:") :])
    assert run.stdout.count(key) == 1
    caller = keys(*entry).caller(key)
    assert caller
    assert caller.name == "team"
    assert caller.metrics == bool(options)


@pytest.mark.parametrize("name", ["", " team", "équipe", "x" * 101])
def test_a_name_that_no_key_can_have_is_refused_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="a key's name is 1 to 100 characters"):
        create(name, metrics=False, as_json=False)
    assert not capsys.readouterr().out


def test_a_key_may_make_its_number_of_requests_per_minute() -> None:
    now = 0.0
    windows = Windows(lambda: now)
    assert [windows.take("a", 2) for _ in range(3)] == [0, 0, 60]
    assert windows.take("b", 2) == 0  # other keys are counted separately
    now = 59.0
    assert windows.take("a", 2) == 1
    now = 60.0
    assert [windows.take("a", 2) for _ in range(3)] == [0, 0, 60]


def test_refused_requests_do_not_count() -> None:
    now = 0.0
    windows = Windows(lambda: now)
    windows.take("a", 1)
    for now in range(1, 60):
        assert windows.take("a", 1) == 60 - now
    now = 60.0
    assert windows.take("a", 1) == 0
