"""The store's URL: which database it names, what of it is secret, and how it is shown.

A configuration writes `${NAME}` in place of a part of it, or of the whole; what the environment
variable holds is put in where the store is opened.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from deployments.secrets import REFERENCE, Secret
from deployments.store.sql.dialects.dialect import Dialect
from deployments.store.sql.dialects.postgresql import PostgreSQL
from deployments.store.sql.dialects.sqlite import SQLite

_DIALECTS: dict[str, Dialect] = {
    scheme: dialect for dialect in (SQLite(), PostgreSQL()) for scheme in dialect.schemes
}

_HOST = re.compile(r"[^:/]+://(?:[^/?@]*@)?([^/?]*)")  # with its port
_SQLITE_FILE = re.compile(r"(sqlite(?:\+pysqlite)?:///)(?!file:)([^/:$].*)")  # with a relative path


def default_url() -> str:
    """The URL of the store when none is configured: a file of this user's."""
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return f"sqlite:///{Path(state_home) / 'llm-cores-on-ray-serve' / 'store.db'}"


def parsed(url: str) -> URL:
    """The parts of a URL, with the driver that is used here.

    Raises:
        ValueError: the URL is malformed or of another kind. The message repeats nothing of it, as
            it may hold a password.
    """
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise ValueError(
            "the store's URL is malformed; write it as sqlite:///path or "
            "postgresql://user:password@host:port/name"
        ) from None
    dialect = _DIALECTS.get(parts.drivername)
    if dialect is None:
        raise ValueError("the store's URL must begin with sqlite:// or postgresql://")
    dialect.check(url, parts)
    return parts.set(drivername=dialect.driver)


def dialect_of(url: URL) -> Dialect:
    """The dialect that a parsed URL names."""
    return _DIALECTS[url.drivername]


def secrets(url: URL) -> Iterator[str]:
    """The password, and the values of all parameters that may hold a secret."""
    if url.password is not None:
        yield str(url.password)
    public = dialect_of(url).public_parameters
    for name, value in url.query.items():
        if name not in public:
            yield from [value] if isinstance(value, str) else value


def shown(url: URL) -> str:
    """The URL for people to read, with *** in place of each secret."""
    public = dialect_of(url).public_parameters
    query = {name: value if name in public else "***" for name, value in url.query.items()}
    url = url.set(drivername=url.get_backend_name(), query=query)
    return url.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def check_configured(url: str) -> None:
    """Checks a URL as it is configured: with references, and without secrets of its own.

    Raises:
        ValueError: it is wrong, or holds a secret. The message repeats nothing of it.
    """
    if REFERENCE.fullmatch(url):
        return
    if set(secrets(parsed(REFERENCE.sub("REFERENCE", url)))) - {"REFERENCE"}:
        raise ValueError(
            "a password, or a parameter that may hold one, can't be written into the "
            "configuration; put it, or the whole URL, into an environment variable and write its "
            "name: postgresql://user:${PASSWORD}@host/name or ${STORE_URL}"
        )


def resolved(url: str) -> str:
    """The URL with each reference replaced by what its environment variable holds.

    A part of the URL is percent-encoded; a whole URL, or a host with its port, is taken as it is.

    Raises:
        ValueError: a variable is not set.
    """
    whole, host = REFERENCE.fullmatch(url), _HOST.match(url)
    start, end = host.span(1) if host else (0, 0)

    def value(reference: re.Match[str]) -> str:
        found = Secret(reference[1]).resolve(needed_by="the store's URL", runs="its actor")
        verbatim = whole or start <= reference.start() < end
        return found if verbatim else quote(found, safe="")

    return REFERENCE.sub(value, url)


def beside(folder: Path, url: str) -> str:
    """A SQLite URL whose relative path is taken from this folder; any other URL as it is."""
    file = _SQLITE_FILE.fullmatch(url)
    return f"{file[1]}{(folder / Path(file[2]).expanduser()).resolve()}" if file else url


def missing_driver(url: str) -> str | None:
    """What to install before a store can be opened at this URL; None if nothing.

    Raises:
        ValueError: the URL is wrong.
    """
    return dialect_of(parsed(url)).missing
