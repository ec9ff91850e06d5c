"""Checks that the private parts of libraries that we use, replace or override still exist.

Python silently accepts a replacement for a function that is no longer called, and a method that
overrides nothing. A new version of a library could thus disable what we rely on, such as the
guard against fetching callers' URLs. With these checks, the backend fails to start instead.
"""

from typing import Any


def require(owner: Any, *names: str) -> None:
    """Checks that a library's module, class or object still has these attributes.

    Raises:
        RuntimeError: one of them is gone.
    """
    for name in names:
        if not hasattr(owner, name):
            where = getattr(owner, "__qualname__", getattr(owner, "__name__", type(owner).__name__))
            library = getattr(owner, "__module__", where).partition(".")[0]
            raise RuntimeError(
                f"this version of {library} has no {where}.{name}, which we rely on; install "
                "the version in ops/constraints.txt"
            )


def replace(owner: Any, name: str, value: Any) -> None:
    """Replaces an attribute of a library's module or class.

    Raises:
        RuntimeError: there is no such attribute.
    """
    require(owner, name)
    setattr(owner, name, value)
