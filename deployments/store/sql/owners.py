"""Whose answers are known, and how many each key has scored.

A key goes by its name; None is that of callers without one.
"""

from sqlalchemy import func, select

from deployments.store.observations import stored_text
from deployments.store.sql.connections import Connections
from deployments.store.sql.schema import answers


class Owners:
    """Keys of the answers that feedback may still come for. Each method is one transaction.

    Args:
        connections: to the database.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def may_score(self, id: str, key: str | None) -> bool:
        """Whether an answer is known and was for this key. One whose key is unknown, or that was
        for a caller without a key, is everybody's."""
        if id != stored_text(id):  # no database can hold it, so no answer has it
            return False
        with self._connections.reading() as connection:
            found = connection.execute(select(answers.c.key).where(answers.c.id == id)).all()
        return bool(found) and found[0].key in (None, key)

    def scores(self) -> dict[str | None, int]:
        """How many of the answers each key has scored. Those that got a score by themselves count
        for none, whoever asked."""
        scored = select(answers.c.key, func.count()).where(
            answers.c.score.is_not(None), answers.c.rated.is_not(True)
        )
        with self._connections.reading() as connection:
            return {key: int(n) for key, n in connection.execute(scored.group_by(answers.c.key))}
