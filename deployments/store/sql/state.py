"""Small things that the server keeps between runs, by name, as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select

from deployments.store.sql.connections import Connections
from deployments.store.sql.header import HEADER
from deployments.store.sql.schema import state


class State:
    """Values by name in the store's database. Each method is one transaction.

    Args:
        connections: to the database.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def get(self, name: str) -> Any:
        """The value of this name; None if there is none."""
        wanted = select(state.c.value).where(state.c.name == _checked(name))
        with self._connections.reading() as connection:
            value = connection.scalar(wanted)
        return None if value is None else json.loads(value)

    def with_prefix(self, prefix: str) -> dict[str, Any]:
        """All values whose names begin with `prefix`."""
        wanted = select(state.c.name, state.c.value)
        wanted = wanted.where(state.c.name.startswith(prefix, autoescape=True))
        with self._connections.reading() as connection:
            return {name: json.loads(value) for name, value in connection.execute(wanted)}

    def set(self, name: str, value: Any) -> None:
        """Keeps a small value.

        Raises:
            TypeError, ValueError: JSON can't hold it.
        """
        insert = self._connections.dialect.insert(state)
        replace = insert.on_conflict_do_update(
            index_elements=["name"], set_={"value": insert.excluded.value}
        )
        row = {"name": _checked(name), "value": json.dumps(value, allow_nan=False)}
        with self._connections.writing() as connection:
            connection.execute(replace, row)

    def delete(self, names: Sequence[str]) -> None:
        """Deletes the values of these names; those that don't exist are ignored."""
        if names:
            wanted = state.c.name.in_([_checked(name) for name in names])
            with self._connections.writing() as connection:
                connection.execute(delete(state).where(wanted))


def _checked(name: str) -> str:
    if name == HEADER:
        raise ValueError(f"the name '{HEADER}' is reserved for the database's own header")
    return name
