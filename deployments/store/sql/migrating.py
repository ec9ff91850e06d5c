"""Migrating the tables of an older database, by Alembic.

The database's version is in Alembic's own table. To change the tables, change `schema.py` and add a
revision to `migrations/versions`; a test compares the two.
"""

import logging
import threading
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

logger = logging.getLogger("ray.serve")

_UNVERSIONED = "1"  # the tables as they were before databases had a version
VERSION_TABLE = "store_version"
_upgrading = threading.Lock()  # Alembic has one context for the process


def stamp(connection: Connection) -> None:
    """Records that the tables, which have just been created, have the newest version."""
    _context(connection).stamp(_scripts(), "head")


def upgrade(connection: Connection, shown: str) -> None:
    """Migrates the tables to the newest version, within the transaction of `connection`.

    Raises:
        ValueError: their version is newer than this program knows.
    """
    context = _context(connection)
    version = context.get_current_revision()
    if version is None:
        context.stamp(_scripts(), _UNVERSIONED)
        version = _UNVERSIONED
    newest = str(_scripts().get_current_head())
    if version == newest:
        return
    if version not in {script.revision for script in _scripts().walk_revisions()}:
        raise ValueError(
            f"{shown} was written by a newer version of this program (its schema is version "
            f"{version}; this program knows versions up to {newest}): install the newer version, "
            "or give another store"
        )
    logger.info("migrating the tables of %s from version %s to %s", shown, version, newest)
    config = _config()
    config.attributes["connection"] = connection
    with _upgrading:
        command.upgrade(config, "head")


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
