"""What a page of HTML consists of, as far as tests ask for it."""

import json
from html.parser import HTMLParser
from typing import Any

_VOID = {"meta", "link", "img", "br", "hr", "input", "line"}


class Page(HTMLParser):
    """A parsed page; parsing fails if an element isn't closed where it should be.

    Attributes:
        elements: each one's name and attributes.
        text: by the name of the innermost element.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "elements are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{self.getpos()}: </{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text.setdefault(self._open[-1], []).append(data)

    def attributes(self, name: str) -> list[str | None]:
        """The values of an attribute, of all elements that have it."""
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def data(self) -> Any:
        """The JSON in the page."""
        return next(
            json.loads(text) for text in self.text["script"] if text.lstrip().startswith("{")
        )
