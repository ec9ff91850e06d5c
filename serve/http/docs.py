"""`/docs`: Swagger UI in a page that loads nothing from other hosts."""

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse

_FOLDER = Path(__file__).parent / "swagger_ui"
_FILES = ("docs.css", "docs.js", "swagger-ui.css", "swagger-ui-bundle.js")
PATHS = frozenset({"/docs", *(f"/docs/{file}" for file in _FILES)})

_HEADERS = {
    # Keys are typed into the page, so it may neither run nor reach anything from other hosts.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def add_docs(api: FastAPI) -> None:
    """Adds the page and its files at `PATHS`. The page fetches `/openapi.json` itself, with the key
    that the user enters where one is required."""
    for path in PATHS:
        api.add_route(path, _file, include_in_schema=False)


async def _file(request: Request) -> FileResponse:
    name = Path(request.url.path).name
    return FileResponse(_FOLDER / (name if name in _FILES else "docs.html"), headers=_HEADERS)
