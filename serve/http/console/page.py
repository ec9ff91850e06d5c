"""The console's page and its files, which load nothing from other hosts."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import LLMError
from serve.http.console.paths import PAGE, STATIC
from serve.http.failures import from_status
from serve.http.server import server_of

FOLDER = Path(__file__).parent / "static"
_INDEX = "index.html"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    "": "text/plain; charset=utf-8",  # licences
}
_HEADERS = {
    # Keys are typed into the page, and it shows what models and callers write: nothing of that may
    # run, and the page may reach no other host.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; font-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # asks each time whether the file is still the same
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent."""

    content: bytes
    headers: Mapping[str, str]


def files_in(folder: Path) -> dict[str, File]:
    """The files of a folder and those below by their paths in it, as far as they are of a kind that
    a page has. No other path is ever opened."""
    return {path.relative_to(folder).as_posix(): _read(path) for path in _pages(folder)}


def add_page(api: FastAPI, folder: Path = FOLDER) -> None:
    """Adds the page, and its files as they are now."""
    files = files_in(folder)

    async def page(request: Request) -> Response:
        if request.method != "GET":  # a client of the API whose base URL is wrong
            raise HTTPException(404)
        check_on(request)
        return _response(request, files[_INDEX])

    async def static(request: Request) -> Response:
        check_on(request)
        name = request.path_params["name"]
        if name not in files:
            raise from_status(404, "the console has no such file")
        return _response(request, files[name])

    api.add_route(PAGE, page, ["GET", "POST"], include_in_schema=False)
    api.add_route(STATIC + "{name:path}", static, include_in_schema=False)


def check_on(request: Request) -> None:
    """Raises LLMError with status 404 where there is no console."""
    if not server_of(request).config.has_console:
        raise off()


def off() -> LLMError:
    """The error where there is no console."""
    return from_status(
        404,
        "this server has no console here; `server.console: true` in its configuration turns it on. "
        "The API is at /v1, and described at /docs",
    )


def _pages(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and path.suffix in _KINDS and not hidden:
            yield path


def _read(path: Path) -> File:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return File(content, {**_HEADERS, "content-type": _KINDS[path.suffix], "etag": tag})


def _response(request: Request, file: File) -> Response:
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    tag = file.headers["etag"]
    if "*" in known or tag in known or f"W/{tag}" in known:
        return Response(status_code=304, headers=dict(file.headers))
    return Response(file.content, headers=dict(file.headers))
