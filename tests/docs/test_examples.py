"""Promise: every example of the README and the documentation works as it is written.

Python and shell blocks run, in order, against a running server; configurations are read. A block
that can't run here is preceded by `<!-- skip: next "why" -->`. `<!-- file: name -->` makes a block
a file that others of its page read.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

import pytest
import yaml
from markdown_it import MarkdownIt
from serve_fixtures import Server, in_repository
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from ops.load.profile import parse_profile
from serve.config import load_config

SERVER = "http://localhost:8000"  # as the examples call it
PAGES = [
    *(in_repository(name) for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(in_repository("docs").rglob("*.md")),
]
PAGES = [page for page in PAGES if "_generated" not in page.parts]
_LANGUAGES = {"python", "shell", "yaml", "json"}  # checked here
_OUTPUT = {"text"}  # what a program prints, for reading
_FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def _shell(example: Example) -> None:
    """Runs the commands, which fail if one of them does."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", str(example.parsed)],
        env=example.namespace["environment"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{example.parsed}\n{done.stdout}\n{done.stderr}"


def _yaml(example: Example) -> None:
    """Reads a configuration: a file of its own, or a Ray Serve config file. Or a load test's
    profile."""
    content = yaml.safe_load(str(example.parsed))
    if "stages" in content:
        parse_profile(content)
        return
    for application in content.get("applications", [{"args": content}]):
        load_config(application["args"])


def _json(example: Example) -> None:
    json.loads(str(example.parsed))


def document(page: Path) -> Document:
    """A page with its examples."""
    return Document.parse(
        str(page),
        SkipParser(),
        PythonCodeBlockParser(),
        CodeBlockParser("shell", _shell),
        CodeBlockParser("yaml", _yaml),
        CodeBlockParser("json", _json),
    )


def name(page: Path) -> str:
    return str(page.relative_to(in_repository(".")))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_block_is_run_or_marked(page: Path) -> None:
    tokens = MarkdownIt().parse(page.read_text("utf-8"))
    assert not [token.map for token in tokens if token.type == "code_block"], "fence it"
    languages = Counter(
        token.info for token in tokens if token.type == "fence" and not token.info.startswith("{")
    )
    assert set(languages) <= _LANGUAGES | _OUTPUT, "each block names its language"
    # Those that Sybil finds are all that Markdown knows of.
    found = [e for e in document(page).examples() if not isinstance(e.parsed, tuple)]
    assert len(found) == sum(languages[language] for language in _LANGUAGES)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_skipped_block_says_why(page: Path) -> None:
    for directive in re.findall(r"^ *<!-- skip:.*", page.read_text("utf-8"), re.MULTILINE):
        assert re.fullmatch(r' *<!-- skip: next "[^"]{8,}" -->', directive)


WRONG = {
    "python": "assert False",
    "shell": "false | true",
    "yaml": "llms: {model: []}",
    "json": "{",
}


@pytest.mark.parametrize("language", WRONG)
def test_an_example_that_does_not_work_fails(language: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```{language}\n{WRONG[language]}\n```\n")
    examples = document(page)
    examples.namespace["environment"] = dict(os.environ)
    [example] = examples.examples()
    with pytest.raises((AssertionError, ValueError)):
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_examples_of_a_page_work(
    page: Path, smart: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a folder of the page's own, with the page's files and a store of its own.
    text = page.read_text("utf-8").replace(SERVER, smart.url)
    for file, content in _FILE.findall(text):
        (tmp_path / file).write_text(content)
    (tmp_path / ".curlrc").write_text("fail-with-body")  # an answer of 400 fails, too
    monkeypatch.chdir(tmp_path)
    (tmp_path / page.name).write_text(text)
    examples = document(tmp_path / page.name)
    examples.namespace["environment"] = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(in_repository(".")),
        "XDG_STATE_HOME": str(tmp_path),
        "LLM_CORES_URL": smart.url,
        "CURL_HOME": str(tmp_path),
    }
    for example in examples.examples():
        with suppress(SkipTest):
            example.evaluate()
