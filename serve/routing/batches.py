"""Decides the queries of a batch together, by forecast and without a policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Floats32, Integers, Neighbours, Outcomes
from serve.routing.arrays import Booleans, Floats
from serve.routing.forecast.forecaster import Forecaster
from serve.routing.forecast.predictor import Prediction
from serve.routing.optimise.floor import above_floor
from serve.routing.optimise.problem import Assignment
from serve.routing.strategy import BatchQuestion


class Impossible(ValueError):
    """A batch can't be decided as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Routes:
    """A decided batch of n queries over m models.

    Attributes:
        models: names, in the order of every array's columns.
        allowed: (n, m) which models may answer which query.
        assignment: its `choice` are columns.
        prediction, cost: (n, m) each.
        near, similarity: (n, k) the store's numbers of the nearest past queries, and cosines.
        cold: whether no answer has been scored yet, so that qualities are guesses; scores that have
            faded don't make a store cold again.
        past: texts of the nearest past queries, by number; None if they are not shown.
    """

    models: Sequence[str]
    allowed: Booleans
    assignment: Assignment
    prediction: Prediction
    cost: Floats
    near: Integers
    similarity: Floats32
    cold: bool
    past: Mapping[int, str] | None = None


def route(
    forecaster: Forecaster,
    models: Sequence[str],
    allowed: Booleans,
    question: BatchQuestion,
    embeddings: Floats32,
    *,
    neighbours: int,
) -> Routes:
    """Chooses a model for each of n queries, out of m models.

    Args:
        forecaster: what predicts; of the same models.
        models: names, in the order of every array's columns.
        allowed: (n, m) which models may answer which query: the question's candidates.
        question: the batch.
        embeddings: (n, d) of the queries.
        neighbours: how many past queries to name for each; 0 for none.

    Raises:
        Impossible: the capacities are too small for the batch, or a query has no candidate.
    """
    prediction = forecaster.predict(question.queries, embeddings)
    input_tokens = question.input_tokens
    if input_tokens is None:
        rate = forecaster.characters_per_token
        input_tokens = [len(query) / rate for query in question.queries]
    cost = forecaster.costs(input_tokens, prediction)
    wanted = question.requirement
    try:
        if question.floor:
            assignment = _by_floor(prediction.quality, cost, allowed, wanted)
        else:
            capacities = _capacities(question.capacities, models)
            assignment = forecaster.assign(prediction, cost, wanted, allowed, capacities)
    except ValueError as error:
        raise Impossible(str(error)) from error
    near = _nothing(len(allowed))
    if neighbours:
        near = forecaster.evidence.neighbours(embeddings, neighbours)
    return Routes(
        models,
        allowed,
        assignment,
        prediction,
        cost,
        near.ids[:, :neighbours],
        near.similarity[:, :neighbours],
        not len(forecaster.evidence),
    )


def _by_floor(quality: Floats, cost: Floats, allowed: Booleans, floor: float) -> Assignment:
    rows = zip(quality, cost, allowed, strict=True)
    choice = np.array([above_floor(q, c, floor, may)[0] for q, c, may in rows], np.int64)
    at = np.arange(len(choice))
    total, mean = float(cost[at, choice].sum()), float(quality[at, choice].mean())
    under = np.maximum(floor - quality[at, choice], 0.0)
    return Assignment(choice, total, mean, 0.0, total, float(under.mean()))


def _capacities(
    capacities: Mapping[str, float] | None, models: Sequence[str]
) -> list[float] | None:
    """(m,) most queries of each model."""
    if capacities is None:
        return None
    return [capacities.get(model, np.inf) for model in models]


def _nothing(rows: int) -> Neighbours:
    none = np.zeros((rows, 0), np.int64)
    return Neighbours(none, none.astype(np.float32), Outcomes.nothing())
