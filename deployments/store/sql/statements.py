"""The statements that most transactions run, made once: making one takes longer than running it."""

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Table,
    bindparam,
    case,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert

from deployments.store.sql.dialects.dialect import Dialect, Insert
from deployments.store.sql.schema import answers, lengths, outcomes, queries, state
from deployments.store.sql.sums import KEY, LENGTH_KEY, LENGTH_SUMS, SUMS

_ids: BindParameter[Any] = bindparam("ids", expanding=True)
_is_scored = exists().where(outcomes.c.query_id == queries.c.id, outcomes.c.scored > 0)

value_of = select(state.c.value).where(state.c.name == bindparam("key"))
set_value = update(state).where(state.c.name == bindparam("key"))

newest_query = select(queries.c.id).order_by(queries.c.id.desc()).limit(1)
existing_queries = select(queries.c.id).where(queries.c.id.in_(_ids))
touch_queries = update(queries).where(queries.c.id.in_(_ids))
mark_scored = (
    update(queries)
    .where(queries.c.id.in_(_ids), queries.c.scored != _is_scored)
    .values(scored=_is_scored)
)

_record = ("id", "model", "predicted", "policy", "cost", "identity", "chosen", "propensity", "key")
_answer = ("query_id", "score", *_record)
known_answers = select(*(answers.c[name] for name in _answer)).where(answers.c.id.in_(_ids))
insert_answers = answers.insert()
rescore_answers = update(answers).where(answers.c.id == bindparam("answer"))


@cache
def put_queries(dialect: Dialect) -> ReturningInsert[bytes, int]:
    """Adds queries, touches those that exist, and returns the key and the number of each."""
    insert = dialect.insert(queries)
    new = insert.excluded
    known = new.input_tokens.is_not(None)
    return insert.on_conflict_do_update(
        index_elements=["key"],
        set_={
            "revision": new.revision,
            "writer": new.writer,
            "updated_at": new.updated_at,
            "input_tokens": case((known, new.input_tokens), else_=queries.c.input_tokens),
            "characters": case((known, new.characters), else_=queries.c.characters),
        },
    ).returning(queries.c.key, queries.c.id)


@cache
def add_outcomes(dialect: Dialect) -> Insert:
    """Adds outcomes, and their sums to those that exist."""
    return adding(dialect.insert(outcomes))


@cache
def add_lengths(dialect: Dialect) -> Insert:
    """The same of lengths."""
    return _adding(dialect.insert(lengths), lengths, LENGTH_KEY, LENGTH_SUMS)


def adding(insert: Insert) -> Insert:
    """An insert of outcomes that adds its sums to those of existing rows."""
    said = func.coalesce(insert.excluded.said, outcomes.c.said)
    old, new = outcomes.c.scored_at, insert.excluded.scored_at
    scored_at = case((new > func.coalesce(old, 0.0), new), else_=old)
    return _adding(insert, outcomes, KEY, SUMS, {"said": said, "scored_at": scored_at})


def _adding(
    insert: Insert,
    table: Table,
    key: Sequence[str],
    sums: Sequence[str],
    others: Mapping[str, ColumnElement[Any]] = MappingProxyType({}),
) -> Insert:
    after = {name: table.c[name] + insert.excluded[name] for name in sums} | {**others}
    # An adopted outcome may be older than the row that it joins.
    old, new = table.c.updated_at, insert.excluded.updated_at
    after["updated_at"] = case((new > old, new), else_=old)
    return insert.on_conflict_do_update(index_elements=list(key), set_=after)
