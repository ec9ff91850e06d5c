"""Reading the store's tables: past queries with their outcomes, and statistics."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from deployments.store.observations import Outcome, StoredRow
from deployments.store.sql.dialects.dialect import Dialect
from deployments.store.sql.schema import answers, metadata, outcomes, queries
from deployments.store.sql.vectors import decoded


def rows_of(
    connection: Connection,
    which_queries: ColumnElement[bool],
    which_outcomes: ColumnElement[bool],
    identities: Mapping[str, str],
    dimensions: int,
) -> list[StoredRow]:
    """Queries by number, with what is known of each model on them.

    Args:
        connection: to the database.
        which_queries: a condition on `queries`.
        which_outcomes: the same on `outcomes`.
        identities: as in `outcomes_of`.
        dimensions: of the embeddings.
    """
    names = ("id", "text", "input_tokens", "revision", "embedding")
    columns = [queries.c[name] for name in names]
    # Before the outcomes: these may be newer than the revision that is read here, never older.
    stored = connection.execute(select(*columns).where(which_queries).order_by(queries.c.id)).all()
    known = outcomes_of(connection, which_outcomes, identities)
    vectors = decoded([embedding for *_, embedding in stored], dimensions)
    return [
        StoredRow(id, text, vector, known.get(id, {}), tokens, revision)
        for (id, text, tokens, revision, _), vector in zip(stored, vectors, strict=True)
    ]


def outcomes_of(
    connection: Connection, which: ColumnElement[bool], identities: Mapping[str, str]
) -> dict[int, dict[str, Outcome]]:
    """What each model did on each query, by the query's number, over all sources.

    `identities` says which model each name stands for now; what other models did under these names
    is left out.
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
        `queries`, `outcomes` (of one model on one query from one source), `answers` awaiting
        feedback, `bytes` on the disk, `models` (for each its `queries`, `answers`, `scored`
        answers, the means `quality`, `output_tokens` and `seconds`, None where unknown, and the
        answers of each of its `identities`) and `sources` (the answers from each).
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
