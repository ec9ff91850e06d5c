"""Reading the store's tables: outcomes of all sources together, and figures for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, func, select

from deployments.store.observations import Outcome
from deployments.store.sql.dialects.dialect import Dialect
from deployments.store.sql.schema import answers, metadata, outcomes, queries

_Item = TypeVar("_Item")


def chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """The items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def outcomes_of(
    connection: Connection, which: ColumnElement[bool], identities: Mapping[str, str]
) -> dict[int, dict[str, Outcome]]:
    """What each model did on each query, by the query's number; all sources together.

    `identities` are the models that are behind the names now: of these names, what other models did
    under them is left out.
    """
    place = (outcomes.c.query_id, outcomes.c.model, outcomes.c.identity)
    names = ("quality_sum", "scored", "tokens_sum", "counted", "answers")
    sums = [func.sum(outcomes.c[name]) for name in names]
    totals = select(*place, *sums).where(which).group_by(*place).order_by(*place)
    found: dict[int, dict[str, list[Any]]] = {}
    for query_id, model, identity, *more in connection.execute(totals):
        if identities.get(model, identity) != identity:
            continue
        known = found.setdefault(query_id, {})
        if before := known.get(model):
            more = [one + other for one, other in zip(before, more, strict=True)]
        known[model] = more
    return {
        query_id: {model: _outcome(*total) for model, total in known.items()}
        for query_id, known in found.items()
    }


def _outcome(quality: float, scored: Any, tokens: float, counted: Any, given: Any) -> Outcome:
    return Outcome(
        min(1.0, max(0.0, quality / int(scored))) if scored else None,
        tokens / int(counted) if counted else None,
        int(scored or given),
    )


def stats_of(connection: Connection, dialect: Dialect) -> dict[str, Any]:
    """What the tables hold.

    Returns:
        `queries`, `outcomes` (of a model on a query, from one source), `answers` that feedback may
        come for, `bytes` on the disk, `models` (of each its `queries`, `answers`, `scored` ones,
        means `quality`, `output_tokens`, `seconds`, where None is not known, and answers of each of
        its `identities`) and `sources` (answers from each).
    """
    counts = {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in (queries, outcomes, answers)
    }
    sources = connection.execute(
        select(outcomes.c.source, func.sum(outcomes.c.answers))
        .group_by(outcomes.c.source)
        .order_by(outcomes.c.source)
    )
    return {
        **counts,
        "bytes": dialect.size(connection, metadata.tables),
        "models": _models(connection),
        "sources": {source: int(given) for source, given in sources},
    }


def _models(connection: Connection) -> dict[str, dict[str, Any]]:
    identities: dict[str, dict[str, int]] = {}
    place = (outcomes.c.model, outcomes.c.identity)
    given_by = select(*place, func.sum(outcomes.c.answers)).group_by(*place).order_by(*place)
    for model, identity, given in connection.execute(given_by):
        identities.setdefault(model, {})[identity] = int(given)
    names = ("answers", "scored", "quality_sum", "counted", "tokens_sum", "timed", "seconds_sum")
    rows = connection.execute(
        select(
            outcomes.c.model,
            func.count(outcomes.c.query_id.distinct()),
            *(func.sum(outcomes.c[name]) for name in names),
        )
        .group_by(outcomes.c.model)
        .order_by(outcomes.c.model)
    )
    return {
        model: {
            "queries": seen,
            "answers": int(given),
            "scored": int(scored),
            "quality": quality / int(scored) if scored else None,
            "output_tokens": tokens / int(counted) if counted else None,
            "seconds": seconds / int(timed) if timed else None,
            "identities": identities[model],
        }
        for model, seen, given, scored, quality, counted, tokens, timed, seconds in rows
    }
