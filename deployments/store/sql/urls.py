"""The store's URL: what it may be, what of it is secret, and how it is shown."""

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}

# Parameters that never hold a secret: all others are taken for one. Sources:
# https://www.sqlite.org/uri.html and, for libpq,
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
PUBLIC_PARAMETERS = {
    "sqlite": frozenset("uri mode cache vfs immutable nolock psow timeout".split()),
    "postgresql": frozenset(
        "host hostaddr port user dbname application_name fallback_application_name client_encoding "
        "connect_timeout keepalives keepalives_idle keepalives_interval keepalives_count "
        "tcp_user_timeout target_session_attrs load_balance_hosts channel_binding require_auth "
        "sslmode sslnegotiation sslcompression sslcert sslkey sslcertmode sslrootcert sslcrl "
        "sslcrldir sslsni ssl_min_protocol_version ssl_max_protocol_version requirepeer gssencmode "
        "krbsrvname gsslib gssdelegation".split()
    ),
}


def default_url() -> str:
    """Where the server keeps its store if no URL is given: a file of this user's."""
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return f"sqlite:///{Path(state_home) / 'llm-cores-on-ray-serve' / 'store.db'}"


def parsed(url: str) -> URL:
    """The URL in its parts, with the driver that is used here.

    Raises:
        ValueError: it can't be read, or is of another kind. The message repeats nothing of it, for
            it may hold a password.
    """
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        raise ValueError(
            "the store's URL can't be read; write it as sqlite:///path or "
            "postgresql://user:password@host:port/name"
        ) from None
    if parts.drivername not in _DRIVERS:
        raise ValueError("the store's URL must begin with sqlite:// or postgresql://")
    postgresql = parts.get_backend_name().startswith("postgres")
    values = "".join(map("".join, parts.query.values()))  # where one may stand
    if postgresql and url.partition("@")[2].count("@") > values.count("@"):
        raise ValueError(
            "the store's URL has an '@' too many; percent-encode the user and the password ('@' as "
            "%40, '/' as %2F)"
        )
    return parts.set(drivername=_DRIVERS[parts.drivername])


def secrets(url: URL) -> Iterator[str]:
    """The password, and the values of all parameters that may hold a secret."""
    if url.password is not None:
        yield str(url.password)
    for name, value in url.query.items():
        if name not in PUBLIC_PARAMETERS[url.get_backend_name()]:
            yield from [value] if isinstance(value, str) else value


def shown(url: URL) -> str:
    """The URL for people to read, with *** in place of each secret."""
    public = PUBLIC_PARAMETERS[url.get_backend_name()]
    query = {name: value if name in public else "***" for name, value in url.query.items()}
    url = url.set(drivername=url.get_backend_name(), query=query)
    return url.render_as_string(hide_password=True)
