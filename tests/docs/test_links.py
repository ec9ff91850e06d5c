"""Promise: no page links to a file that is not there. (`make docs` checks those within docs/.)"""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from serve_fixtures import in_repository

PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "ops/demo/README.md"]


def links(page: Path) -> list[str]:
    """What a page links to or shows, other than web pages."""
    found = []
    for token in MarkdownIt().enable("table").parse(page.read_text("utf-8")):
        for inner in token.children or ():
            target = inner.attrGet("href") or inner.attrGet("src")
            if target and "://" not in str(target):
                found.append(str(target).partition("#")[0])
    return found


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_links_to_is_there(name: str) -> None:
    page = in_repository(name)
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


def test_links_are_found() -> None:
    assert "docs/static/request.svg" in links(in_repository("README.md"))
    assert "docs/results.md" in links(in_repository("README.md"))
