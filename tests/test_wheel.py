"""Promise: the wheel has the whole package and nothing else, and the demo works from it alone."""

import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest
from serve_fixtures import in_repository

PACKAGES = ("serve", "deployments", "ops")
# Builds without pip, which would fetch the build's requirements; those are installed.
BUILD = "import setuptools.build_meta as b; b.build_wheel('dist')"
# Of ops/, for those who have the repository.
LEFT_OUT = {".sh", ".txt", ".yaml", ".md"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built from a copy of what git holds or would take, so that no earlier build is in it."""
    copy = tmp_path_factory.mktemp("tree")
    for name in tracked("pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).symlink_to(in_repository(name))
    build = [sys.executable, "-c", BUILD]
    run = subprocess.run(build, cwd=copy, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    (built,) = (copy / "dist").iterdir()
    return ZipFile(built)
