"""Promise: `make` accepts Python 3.11 to 3.13; others it refuses in one line, leaving no files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serve_fixtures import in_repository

SUPPORTED = "3.11, 3.12 or 3.13"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that `make run` needs to get as far as its virtual environment."""
    for folder in ("serve", "deployments", "ops"):
        (tmp_path / folder).mkdir()
    for file in ("Makefile", "pyproject.toml", "ops/constraints.txt", "ops/venv.sh"):
        shutil.copy(in_repository(file), tmp_path / file)
    return tmp_path


def command(folder: Path, name: str, version: str) -> str:
    """A fake Python that reports an unsupported version."""
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
    """The one line that is printed, apart from make's own."""
    run = make(tree, *arguments, **variables)
    assert run.returncode != 0
    assert not (tree / ".venv").exists()
    (line,) = [line for line in run.stderr.splitlines() if not line.startswith("make")]
    return line


def test_an_unsupported_python_is_refused(tree: Path) -> None:
    old = command(tree / "bin", "python3.10", "3.10.13")
    assert (
        refusal(tree, PYTHON=old) == f"Python {SUPPORTED} is required, but {old} is Python 3.10.13."
    )
    assert SUPPORTED in refusal(tree, f"PYTHON={old}")


def test_a_python_that_is_not_found_is_refused(tree: Path) -> None:
    assert "but python3.99 was not found" in refusal(tree, PYTHON="python3.99")


def test_without_a_supported_python_the_message_says_how_to_name_one(tree: Path) -> None:
    for name in ("python3.11", "python3.12", "python3.13", "python3"):
        command(tree / "bin", name, "3.10.13")
    path = f"{tree / 'bin'}:{os.environ['PATH']}"
    assert "make PYTHON=/path/to/python" in refusal(tree, PATH=path)


@pytest.mark.parametrize("leftover", ["another Python", "interrupted"])
def test_a_leftover_environment_does_not_hide_the_refusal(tree: Path, leftover: str) -> None:
    if leftover == "another Python":
        command(tree / ".venv" / "bin", "python", "3.10.13")
    else:
        (tree / ".venv" / "lib").mkdir(parents=True)
    assert SUPPORTED in refusal(tree, PYTHON=command(tree / "bin", "python3.10", "3.10.13"))


def test_a_leftover_environment_is_replaced_and_a_good_one_kept(tree: Path) -> None:
    command(tree / ".venv" / "bin", "python", "3.10.13")
    create = ["sh", "ops/venv.sh", ".venv", sys.executable]
    assert subprocess.run(create, cwd=tree, capture_output=True).returncode == 0
    kept = tree / ".venv" / "kept"
    kept.touch()
    assert subprocess.run(create, cwd=tree, capture_output=True).returncode == 0
    assert kept.exists()
