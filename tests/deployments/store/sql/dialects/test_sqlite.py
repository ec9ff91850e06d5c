"""Promise: a SQLite store is private to its owner, and its commits are on the disk."""

from pathlib import Path

from observed import D, seen

from deployments.store.sql.database import Database


def _permissions(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    database = Database(f"sqlite:///{folder}/store.db", "encoder", D)
    database.write([seen()])
    assert _permissions(tmp_path) == {"state": 0o700}
    private = dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), 384)
    assert _permissions(folder) == private
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    Database(f"sqlite:///{folder}/store.db").close()
    assert _permissions(folder) == private
    assert _permissions(tmp_path) == {"state": 0o755}  # as the user has set it
    database.close()


def test_only_its_owner_can_read_a_file_named_by_a_uri(tmp_path: Path) -> None:
    database = Database(f"sqlite:///file:{tmp_path}/own/store.db?uri=true", "encoder", D)
    database.write([seen()])
    assert set(_permissions(tmp_path / "own").values()) == {0o600}
    database.close()


def test_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/store.db", "encoder", D)
    with database._connections.reading() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    database.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
