"""Promise: help is quick and shows what works; options reach what a command calls."""

import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any
from unittest.mock import Mock, patch

import pytest
import typer
from serve_fixtures import in_repository

from ops.cli.app import DISTRIBUTION, alone, app, main

HEAVY = {"ray", "torch", "litellm", "openai", "transformers", "sqlalchemy", "httpx", "pydantic"}


def named(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below a group, by what is written to call them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from named(command, *path, name)
        else:
            yield (*path, name), command


PROGRAM: Any = typer.main.get_command(app)
COMMANDS = dict(named(PROGRAM))


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_help_and_completion_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from ops.cli.app import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: print(end.code)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=in_repository("."), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    *shown, code, modules = run.stdout.splitlines()
    assert code == "0"
    assert not HEAVY & set(modules.split())
    assert all(any(line.startswith(f"│ {name}") for line in shown) for name in PROGRAM.commands)
    assert "\x1b" not in run.stdout  # no terminal, no colour


def test_a_shell_completes_commands() -> None:
    environment = {"_LLM_CORES_COMPLETE": "complete_bash", "COMP_WORDS": "llm-cores st"}
    run = subprocess.run(
        [sys.executable, "-m", "ops.cli"],
        cwd=in_repository("."),
        env={**environment, "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == ["store"], run.stderr


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_has_examples_that_it_understands(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(*path, "--help") == 0
    assert "Examples:" in capsys.readouterr().out
    examples = COMMANDS[path].epilog.split("```shell\n")[1].removesuffix("\n```").splitlines()
    for example in examples:
        words = shlex.split(example.rpartition("| ")[2])  # what is piped in comes before
        assert words[: 1 + len(path)] == ["llm-cores", *path]
        with COMMANDS[path].make_context("llm-cores", words[1 + len(path) :]) as context:
            assert context.params.keys() >= {p.name for p in COMMANDS[path].params} - {"help"}
    assert all(parameter.help for parameter in COMMANDS[path].params)


# What a command calls, the arguments given, and with what it is called.
CALLS: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
    ("serve", "ops.run.run", (None, "127.0.0.1", 8000), {}),
    (
        "serve --config a.yaml --host 0.0.0.0 --port 9",
        "ops.run.run",
        ("a.yaml", "0.0.0.0", 9),
        {},
    ),
    ("check a.yaml", "ops.check.check", ("a.yaml",), {"ask": False, "as_json": False}),
    ("check a.yaml --ask --json", "ops.check.check", ("a.yaml",), {"ask": True, "as_json": True}),
    (
        "apply a.yaml --name llms --address h:1 --restart",
        "ops.apply.apply",
        ("a.yaml",),
        {"name": "llms", "address": "h:1", "restart": True},
    ),
    ("keys team --metrics", "ops.keys.create", ("team",), {"metrics": True, "as_json": False}),
    (
        "store forget --store sqlite:///a --model m --before 1970-01-02T00:00+00:00 --dry-run",
        "ops.store.forget",
        ("sqlite:///a",),
        {"model": "m", "source": None, "before": 86400.0, "dry_run": True, "yes": False},
    ),
    ("store reembed --store a --model m", "ops.store.replace_embeddings", ("a",), {"model": "m"}),
    ("store stats --store a --json", "ops.store.show", ("a",), {"as_json": True}),
    (
        "load --growing-cluster --web 8089",
        "ops.load.command.load",
        (),
        {
            "url": None,
            "config": None,
            "profile": None,
            "out": None,
            "remote": False,
            "growing_cluster": True,
            "key_variable": "LLM_CORES_API_KEY",
            "web": 8089,
        },
    ),
    (
        "route a b --models x,y --models z --requirement 0.5 --url http://h",
        "ops.client.routing.route",
        ("http://h", ["a", "b"]),
        {"models": ["x", "y", "z"], "requirement": 0.5, "as_json": False},
    ),
    (
        "top --once --seconds 2",
        "ops.client.top.top",
        ("http://localhost:8000",),
        {"once": True, "seconds": 2.0, "as_json": False},
    ),
]


@pytest.mark.parametrize(("line", "called", "given", "named"), CALLS, ids=lambda case: str(case))
def test_options_reach_what_is_called(
    line: str,
    called: str,
    given: tuple[Any, ...],
    named: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LLM_CORES_URL", raising=False)
    import_module(called.rpartition(".")[0])
    with patch(called, Mock(spec=[])) as function:
        assert ended(*line.split()) == 0
    function.assert_called_once_with(*given, **named)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "serve --port many",
        "check",
        "route",
        "store import",
        "ask question --model a --models b,c",
        "ask question --requirement 2",
        "load --url http://localhost:1 --config a.yaml",
    ],
)
def test_what_is_called_wrongly_ends_with_2(line: str) -> None:
    assert ended(*line.split()) == 2


def test_each_program_of_before_is_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        alone("serve", "ops.run", ["--help"])
    shown = capsys.readouterr().out
    assert "Usage: python -m ops.run [OPTIONS]" in shown
    assert all(option in shown for option in ("--config", "--host", "--port"))


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--version") == 0
    assert capsys.readouterr().out == f"llm-cores {version(DISTRIBUTION)}\n"


def test_the_program_is_installed() -> None:
    project = tomllib.loads(in_repository("pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["llm-cores"].partition(":")
    assert getattr(import_module(module), function) is main
    assert project["name"] == DISTRIBUTION
