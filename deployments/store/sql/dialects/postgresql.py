"""A store in a PostgreSQL database."""

from collections.abc import Iterable
from importlib.util import find_spec

from sqlalchemy import URL, Connection, Engine, Table, create_engine, text
from sqlalchemy.dialects.postgresql import Insert, insert

from deployments.store.sql.dialects.dialect import LOCK_WAIT_S, Dialect

_CONNECT_S = 10
_INSTALL = "a store in PostgreSQL needs psycopg: pip install 'llm-cores-on-ray-serve[postgresql]'"


class PostgreSQL(Dialect):
    """A database on a server, shared by the nodes of a cluster."""

    driver = "postgresql+psycopg"
    schemes = frozenset({"postgres", "postgresql", driver})
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    public_parameters = frozenset(
        "host hostaddr port user dbname application_name fallback_application_name client_encoding "
        "connect_timeout keepalives keepalives_idle keepalives_interval keepalives_count "
        "tcp_user_timeout target_session_attrs load_balance_hosts channel_binding require_auth "
        "sslmode sslnegotiation sslcompression sslcert sslkey sslcertmode sslrootcert sslcrl "
        "sslcrldir sslsni ssl_min_protocol_version ssl_max_protocol_version requirepeer gssencmode "
        "krbsrvname gsslib gssdelegation".split()
    )
    # A writer whose machine is gone must not hold its lock forever.
    settings = (
        f"SET lock_timeout = '{LOCK_WAIT_S}s'",
        f"SET idle_in_transaction_session_timeout = '{LOCK_WAIT_S}s'",
    )
    # One transaction writes at a time, as in SQLite: no deadlocks, and revisions are in order.
    begin_writing = "SELECT pg_advisory_xact_lock(7270571933)"

    @property
    def missing(self) -> str | None:
        return None if find_spec("psycopg") else _INSTALL

    def check(self, url: str, parts: URL) -> None:
        values = "".join(map("".join, parts.query.values()))  # an "@" is fine in these
        if url.partition("@")[2].count("@") > values.count("@"):
            raise ValueError(
                "the store's URL has more than one '@'; percent-encode the user and the password "
                "('@' as %40, '/' as %2F)"
            )

    def insert(self, table: Table) -> Insert:
        return insert(table)

    def size(self, connection: Connection, tables: Iterable[str]) -> int:
        one = text("SELECT pg_total_relation_size(to_regclass(:name))")
        return sum(int(connection.scalar(one, {"name": name}) or 0) for name in tables)

    def _engine(self, url: URL, shown: str, create: bool) -> Engine:
        try:
            return create_engine(
                url,
                hide_parameters=True,  # users' queries don't belong in a log
                pool_pre_ping=True,  # a dead connection is replaced
                connect_args={}
                if "connect_timeout" in url.query
                else {"connect_timeout": _CONNECT_S},
            )
        except ImportError as error:
            raise ValueError(_INSTALL) from error
