"""Reading the store's tables: past queries with their outcomes, and statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select, tuple_

from deployments.store.evidence import Floats32, Integers
from deployments.store.observations import MeanLength, Outcome, StoredRow
from deployments.store.sql.dialects.dialect import Dialect
from deployments.store.sql.schema import answers, dated, lengths, metadata, outcomes, queries
from deployments.store.sql.sums import LENGTH_SUMS
from deployments.store.sql.vectors import decoded

_RECENT = 10_000  # queries that the tokens per character are taken from
_SUMS = ("quality_sum", "scored", "tokens_sum", "counted", "answers")

Stored = Row[int, int, bytes]  # number, revision, embedding
Numbers = npt.NDArray[np.float64]
NOTHING: Numbers = np.empty((0, 3 + len(_SUMS)))  # what `told_of` gives where nothing is known


@dataclass(frozen=True, slots=True)
class Batch:
    """Past queries and what models did on them, as arrays: n queries, and e outcomes, each of one
    model on one query, averaged by count over all sources.

    Attributes:
        ids: (n,), their numbers in the database, in order.
        revisions: (n,), of the transactions that changed them last; the outcomes may be newer.
        embeddings: (n, d), float16, as stored: of length 1 but for the rounding.
        models: m names.
        rows: (e,), indices into the queries, in order.
        columns: (e,), indices into `models`; a pair of a row and a column comes once.
        quality: (e,), 0 to 1; NaN is unknown.
        output_tokens: (e,), NaN is unknown.
        counts: (e,), the number of scores, or of answers if none is scored.
        scored_at: (e,), when the latest score was given, in Unix seconds; 0 if none is scored.
    """

    ids: Integers
    revisions: Integers
    embeddings: npt.NDArray[np.float16]
    models: Sequence[str]
    rows: Integers
    columns: Integers
    quality: Floats32
    output_tokens: Floats32
    counts: Integers
    scored_at: Numbers


def stored_of(connection: Connection, which: ColumnElement[bool]) -> Sequence[Stored]:
    """Queries by number; read them before their outcomes, as `Batch` says."""
    wanted = select(queries.c.id, queries.c.revision, queries.c.embedding).where(which)
    return connection.execute(wanted.order_by(queries.c.id)).all()


def told_of(
    connection: Connection,
    which: ColumnElement[bool],
    models: Sequence[str],
    identities: Mapping[str, str],
) -> Numbers:
    """(r, 3 + sums), in order: the number of a query, the index of one of these models, when it was
    scored last, and the sums of what it did on the query, a row for each source.

    `identities` says which model each name stands for now; what other models did under these names
    is left out.
    """
    if not models:
        return NOTHING
    wanted = _outcomes_of(tuple((model, identities.get(model)) for model in models))
    found = connection.execute(wanted.where(which))
    # Reading a large store spends most of its time here; with a list of the rows it takes longer.
    return np.fromiter(chain.from_iterable(found), np.float64).reshape(-1, NOTHING.shape[1])


@lru_cache(8)  # making it takes as long as reading some hundred rows
def _outcomes_of(models: tuple[tuple[str, str | None], ...]) -> Select[Any]:
    column = case({model: at for at, (model, _) in enumerate(models)}, value=outcomes.c.model)
    known = [pair for pair in models if pair[1] is not None]
    unknown = [model for model, identity in models if identity is None]
    right = tuple_(outcomes.c.model, outcomes.c.identity).in_(known)
    scored_at = func.coalesce(dated(), 0.0)
    return (
        select(outcomes.c.query_id, column, scored_at, *(outcomes.c[name] for name in _SUMS))
        .where(right | outcomes.c.model.in_(unknown))
        .order_by(outcomes.c.query_id, outcomes.c.model)
    )


def batch_of(
    stored: Sequence[Stored], told: Numbers, models: Sequence[str], dimensions: int
) -> Batch:
    """What `stored_of` and `told_of` have given, as arrays."""
    ids = np.array([id for id, _, _ in stored], np.int64)
    rows = np.searchsorted(ids, told[:, 0])
    there = np.append(ids, -1)[rows] == told[:, 0]  # others were added after `stored` was read
    rows, columns = rows[there], told[there, 1].astype(np.int64)
    scored_at, sums = told[there, 2], told[there, 3:]
    # Sources, and identities where any will do, come one after the other.
    first = np.flatnonzero(np.diff(rows * len(models) + columns, prepend=-1))
    quality, scored, tokens, counted, answered = np.add.reduceat(sums, first, axis=0).T
    return Batch(
        ids,
        np.array([revision for _, revision, _ in stored], np.int64),
        np.frombuffer(b"".join(vector for *_, vector in stored), "<f2").reshape(-1, dimensions),
        models,
        rows[first],
        columns[first],
        _mean(quality, scored).clip(0, 1),
        _mean(tokens, counted),
        np.where(scored > 0, scored, answered).astype(np.int64),
        np.maximum.reduceat(scored_at, first),
    )


def _mean(total: Numbers, count: Numbers) -> Floats32:
    """NaN where nothing was counted."""
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean.astype(np.float32)


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
    sums = [func.sum(outcomes.c[name]) for name in _SUMS]
    latest = func.max(outcomes.c.said), func.max(dated())
    totals = select(*place, *latest, *sums).where(which).group_by(*place).order_by(*place)
    found: dict[int, dict[str, tuple[int | None, float | None, list[Any]]]] = {}
    for query_id, model, identity, said, scored_at, *more in connection.execute(totals):
        if identities.get(model, identity) != identity:
            continue
        known = found.setdefault(query_id, {})
        if before := known.get(model):
            said = before[0] if said is None else said
            scored_at = max(filter(None, (before[1], scored_at)), default=None)
            more = [one + other for one, other in zip(before[2], more, strict=True)]
        known[model] = said, scored_at, more
    return {
        query_id: {model: _outcome(*of_model) for model, of_model in known.items()}
        for query_id, known in found.items()
    }


def _outcome(said: int | None, scored_at: float | None, sums: Sequence[Any]) -> Outcome:
    quality, scored, tokens, counted, given = sums
    return Outcome(
        min(1.0, max(0.0, quality / int(scored))) if scored else None,
        tokens / int(counted) if counted else None,
        int(scored or given),
        said,
        scored_at,
    )


def lengths_of(connection: Connection, identities: Mapping[str, str]) -> list[MeanLength]:
    """Mean lengths of the answers of the models that these names stand for now, by model and
    shape."""
    columns = (lengths.c[name] for name in ("model", "identity", "shape", "tokens_sum", "counted"))
    wanted = select(*columns).where(lengths.c.counted > 0)
    return [
        MeanLength(model, shape, tokens / counted, counted)
        for model, identity, shape, tokens, counted in connection.execute(
            wanted.order_by(lengths.c.model, lengths.c.shape)
        )
        if identities.get(model) == identity
    ]


def tokens_per_character_of(connection: Connection) -> float | None:
    """In the prompts of the latest queries whose tokens are known; None if none are."""
    recent = (
        select(queries.c.input_tokens, queries.c.characters)
        .order_by(queries.c.revision.desc())
        .limit(_RECENT)
        .subquery()
    )
    both = recent.c.input_tokens.is_not(None) & recent.c.characters.is_not(None)
    sums = select(func.sum(recent.c.input_tokens), func.sum(recent.c.characters)).where(both)
    tokens, characters = connection.execute(sums).one()
    return float(tokens) / float(characters) if tokens and characters else None


def stats_of(connection: Connection, dialect: Dialect) -> dict[str, Any]:
    """What the tables hold.

    Returns:
        `queries`, `outcomes` (of one model on one query from one source), `answers` awaiting
        feedback, `bytes` on the disk, `models` (for each its `queries`, `answers`, `scored`
        answers, the means `quality`, `output_tokens` and `seconds`, None where unknown, those of
        other `shapes` than text, and the answers of each of its `identities`) and `sources` (the
        answers from each).
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
    shapes = _shapes(connection)
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
            "shapes": shapes.get(model, {}),
            "identities": identities[model],
        }
        for model, seen, given, scored, quality, counted, tokens, timed, seconds in rows
    }


def _shapes(connection: Connection) -> dict[str, dict[str, dict[str, float | None]]]:
    """The means of each model's answers of each shape but text, whatever its name stood for."""
    place = (lengths.c.model, lengths.c.shape)
    sums = [func.sum(lengths.c[name]) for name in LENGTH_SUMS]
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    totals = select(*place, *sums).group_by(*place).order_by(*place)
    for model, shape, tokens, counted, seconds, timed in connection.execute(totals):
        found.setdefault(model, {})[shape] = {
            "output_tokens": tokens / int(counted) if counted else None,
            "seconds": seconds / int(timed) if timed else None,
        }
    return found
