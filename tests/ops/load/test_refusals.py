"""Promise: what can't work is said before anything is started or written."""

from pathlib import Path

import pytest

from ops.cli.app import alone
from ops.load.folder import new_folder
from serve.config import ConfigError


def test_a_service_that_runs_gets_no_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        alone("load", "ops.load", ["--url", "http://localhost:1", "--growing-cluster"])
    assert refused.value.code == 2
    assert "leave out --url" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> object:
        return None if name == "matplotlib" else name

    monkeypatch.setattr("ops.load.command.find_spec", found)
    with pytest.raises(SystemExit, match=r"^matplotlib: .*pip install '.*\[load\]'"):
        alone("load", "ops.load", [])


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is never written over another"):
        new_folder(tmp_path)


def test_a_folder_that_can_not_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be made: Not a directory"):
        new_folder(tmp_path / "file" / "out")
