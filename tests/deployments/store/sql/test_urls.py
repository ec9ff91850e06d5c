"""Promise: a store's URL is checked, and its secrets are never shown."""

from pathlib import Path

import pytest
from observed import D
from postgres_fixtures import PostgreSQL
from sqlalchemy import make_url

from deployments.store.errors import EmbeddingModelChanged
from deployments.store.sql.database import Database
from deployments.store.sql.urls import default_url, dialect_of, parsed, shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("store.db", "write it as"),
        ("mysql://user:secret@host/name", "must begin with"),
        ("sqlite+aiosqlite:///x", "must begin with"),
        ("sqlite:////proc/nowhere/store.db", "can't open"),
        ("postgresql://user:secret@127.0.0.1:1/name", "can't open .*user:.*127"),
        ("postgresql://127.0.0.1:1/name?user=x&password=secret", "can't open"),
        ("postgresql://user:secret@host:port/name", "write it as"),
        ("postgresql://user:a@secret/name@127.0.0.1:1/name", "percent-encode"),
        ("postgresql://user:a@127.0.0.1?secret@127.0.0.1:1/name", "percent-encode"),
        ("postgresql://127.0.0.1:1/name?options=secret&sslpassword=secret", "can't open"),
    ],
)
def test_an_invalid_url_is_reported_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Database(url, "encoder", D)
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_password_is_never_shown(
    postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    url = make_url(postgresql.database()).set(password="sEc@/ReT")
    url = url.update_query_dict({"options": "-c application_name=sEcReT"})
    database = Database(url.render_as_string(hide_password=False), "encoder", D)
    told = f"{database!r} {database.url} {database.stats()} {caplog.text}"
    with pytest.raises(EmbeddingModelChanged) as caught:
        Database(url.render_as_string(hide_password=False), "another", D)
    database.close()
    for part in ("sEc", "ReT"):
        assert part not in told + str(caught.value)


def test_the_default_is_a_file_in_the_users_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    database = Database(default_url(), "encoder", D)
    database.close()
    assert (tmp_path / "llm-cores-on-ray-serve" / "store.db").exists()
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_url().startswith(f"sqlite:///{Path.home()}/.local/state/")


@pytest.mark.parametrize(
    ("url", "driver", "shows"),
    [
        ("sqlite:////a/b.db", "sqlite+pysqlite", "sqlite:////a/b.db"),
        ("sqlite+pysqlite:////a/b.db", "sqlite+pysqlite", "sqlite:////a/b.db"),
        ("postgres://u:p@h/d", "postgresql+psycopg", "postgresql://u:***@h/d"),
        ("postgresql://h/d?key=p", "postgresql+psycopg", "postgresql://h/d?key=***"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg", "postgresql://h/d"),
    ],
)
def test_a_url_names_its_database_in_several_ways(url: str, driver: str, shows: str) -> None:
    parts = parsed(url)
    assert parts.drivername == dialect_of(parts).driver == driver
    assert shown(parts) == shows
