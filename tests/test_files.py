"""Promise: a file has one purpose, given in its first line, and at most 400 lines."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_file_begins_with_its_purpose_and_has_at_most_400_lines() -> None:
    for folder in ("serve", "deployments", "ops", "tests", "docs"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert text.startswith('"""'), f"{path} doesn't begin with its purpose"
            assert len(text.splitlines()) <= 400, f"{path} is longer than 400 lines"
