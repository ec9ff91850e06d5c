"""Actors that live in this process, for what a router replica does with them, without Ray."""

from collections.abc import Awaitable
from typing import Any


class Method:
    """A method of an actor's handle."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def remote(self, *args: Any) -> Awaitable[Any]:
        """Calls it once awaited."""

        async def answered() -> Any:
            return self._method(*args)

        return answered()


class LocalActor:
    """The handle of an actor that is this object."""

    def __init__(self, of: object) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self._of, name))
