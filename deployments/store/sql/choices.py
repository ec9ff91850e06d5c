"""Reading past choices: which model was chosen for a request, with which probability, and what
came of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, func, select, tuple_

from deployments.store.evidence import Integers
from deployments.store.sql.schema import NO_QUERY, answers, queries

Numbers = npt.NDArray[np.float64]
_CHOICE = "query_id", "model", "propensity", "score", "cost", "at"


@dataclass(frozen=True, slots=True)
class Choices:
    """A uniform sample of n requests whose model was chosen by prediction and whose queries are
    stored; and p queries to predict from: those of the sample, and others with a score.

    Attributes:
        query_ids: (n,) the queries' numbers in the database.
        columns: (n,) of the chosen models, in the order in which they were given.
        propensity: (n,) the probability of each choice, above 0 to 1.
        score: (n,) 0 to 1; NaN is unknown.
        cost: (n,) in USD; NaN is unknown.
        at: (n,) Unix seconds.
        total: the number of requests that the sample is of.
        past_ids: (p,) numbers of queries, in order.
        input_tokens: (p,) lengths of their prompts; NaN is unknown.
    """

    query_ids: Integers
    columns: Integers
    propensity: Numbers
    score: Numbers
    cost: Numbers
    at: Numbers
    total: int
    past_ids: Integers
    input_tokens: Numbers


def choices_of(
    connection: Connection, identities: Mapping[str, str], most: int, most_queries: int
) -> Choices:
    """Choices among the models that these names stand for now. Each call samples alike.

    Args:
        connection: to the database.
        identities: of the models, by name.
        most: how many requests to read.
        most_queries: how many queries with a score to add to theirs.
    """
    which = (
        answers.c.propensity > 0,
        answers.c.query_id != NO_QUERY,
        tuple_(answers.c.model, answers.c.identity).in_(list(identities.items())),
    )
    total = connection.scalar(select(func.count()).select_from(answers).where(*which)) or 0
    # Ids begin by the API that was called, and end at random.
    end = func.substr(answers.c.id, func.length(answers.c.id) - 15)
    sample = select(*(answers.c[name] for name in _CHOICE)).where(*which)
    drawn = sample.order_by(end, answers.c.id).limit(most).subquery()
    joined = select(drawn, queries.c.input_tokens).join(queries, queries.c.id == drawn.c.query_id)
    found = connection.execute(joined).all()
    # Keys are digests, so their order is random too.
    others = select(queries.c.id, queries.c.input_tokens).where(queries.c.scored)
    scored = connection.execute(others.order_by(queries.c.key).limit(most_queries))
    past = {row.id: row.input_tokens for row in scored}
    past |= {query_id: tokens for query_id, *_, tokens in found}
    column = {model: number for number, model in enumerate(identities)}
    ids, models, *known = zip(*found, strict=True) if found else [()] * (len(_CHOICE) + 1)
    propensity, score, cost, at, _ = (np.array(values, np.float64) for values in known)
    in_order = sorted(past)
    return Choices(
        np.array(ids, np.int64),
        np.array([column[model] for model in models], np.int64),
        propensity,
        score,
        cost,
        at,
        total,
        np.array(in_order, np.int64),
        np.array([past[id] for id in in_order], np.float64),
    )
