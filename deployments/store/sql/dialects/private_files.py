"""A SQLite file that only its owner may read: it holds the texts of queries."""

import logging
from pathlib import Path

logger = logging.getLogger("ray.serve")

_BESIDE = "", "-wal", "-shm"  # SQLite makes the others with the permissions of the first


def make_private(path: Path) -> None:
    """Makes the file, and its folder, if they aren't there, and takes everybody else's permissions
    away from the file if it is. A folder that is there stays as it is: it may hold other things.

    Raises:
        OSError: the file can't be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    for file in (path.with_name(path.name + suffix) for suffix in _BESIDE):
        try:
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)
        except FileNotFoundError:
            pass  # also where another process has just removed it
        except PermissionError:
            logger.warning("%s may be read by others, and only its owner can change that", file)
