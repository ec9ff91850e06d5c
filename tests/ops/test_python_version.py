"""Promise: `make` takes Python 3.11 to 3.13; it refuses another in one line, nothing half-made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serve_fixtures import in_repository

ASKED = "3.11, 3.12 or 3.13"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What `make run` needs to come as far as its virtual environment."""
    for folder in ("serve", "deployments", "ops"):
        (tmp_path / folder).mkdir()
    for file in ("Makefile", "pyproject.toml", "ops/constraints.txt", "ops/venv.sh"):
        shutil.copy(in_repository(file), tmp_path / file)
    return tmp_path


def command(folder: Path, name: str, version: str) -> str:
    """A Python of a version, as far as `make` looks: it says that it is none that is asked for."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec echo "Python {version}"\nexit 1\n')
    path.chmod(0o755)
    return str(path)


def make(tree: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["make", "run", *arguments], cwd=tree, env=environment, capture_output=True, text=True
    )


def refusal(tree: Path, *arguments: str, **variables: str) -> str:
    """The one line that it says, beside make's own."""
    run = make(tree, *arguments, **variables)
    assert run.returncode != 0
    assert not (tree / ".venv").exists()
    (line,) = [line for line in run.stderr.splitlines() if not line.startswith("make")]
    return line


def test_an_unsupported_python_is_refused(tree: Path) -> None:
    old = command(tree / "bin", "python3.10", "3.10.13")
    assert refusal(tree, PYTHON=old) == f"Python {ASKED} is needed, but {old} is Python 3.10.13."
    assert ASKED in refusal(tree, f"PYTHON={old}")


def test_one_that_is_not_there_is_refused(tree: Path) -> None:
    assert "but python3.99 is not there" in refusal(tree, PYTHON="python3.99")


def test_where_there_is_no_other_it_is_said_how_to_name_one(tree: Path) -> None:
    for name in ("python3.11", "python3.12", "python3.13", "python3"):
        command(tree / "bin", name, "3.10.13")
    path = f"{tree / 'bin'}:{os.environ['PATH']}"
    assert "make PYTHON=/path/to/python" in refusal(tree, PATH=path)


@pytest.mark.parametrize("half_made", ["another Python", "interrupted"])
def test_an_environment_that_was_left_half_made_is_refused_too(tree: Path, half_made: str) -> None:
    if half_made == "another Python":
        command(tree / ".venv" / "bin", "python", "3.10.13")
    else:
        (tree / ".venv" / "lib").mkdir(parents=True)
    assert ASKED in refusal(tree, PYTHON=command(tree / "bin", "python3.10", "3.10.13"))


def test_a_half_made_environment_is_made_anew(tree: Path) -> None:
    command(tree / ".venv" / "bin", "python", "3.10.13")
    made = ["sh", "ops/venv.sh", ".venv", sys.executable]
    assert subprocess.run(made, cwd=tree, capture_output=True).returncode == 0
    kept = tree / ".venv" / "kept"
    kept.touch()
    assert subprocess.run(made, cwd=tree, capture_output=True).returncode == 0
    assert kept.exists()
