"""A SQLite file that only its owner can read, since it holds users' queries."""

import logging
from pathlib import Path

logger = logging.getLogger("ray.serve")

_BESIDE = "", "-wal", "-shm"  # SQLite gives the others the permissions of the first


def make_private(path: Path) -> None:
    """Creates the file, and its folder, if they don't exist; takes all permissions of other users
    from an existing file. An existing folder is left alone: it may hold other things.

    Raises:
        OSError: the file can't be created.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    for file in (path.with_name(path.name + suffix) for suffix in _BESIDE):
        try:
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)
        except FileNotFoundError:
            pass  # or another process has just removed it
        except PermissionError:
            logger.warning("other users can read %s, and only its owner can change that", file)
