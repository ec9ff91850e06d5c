"""Small fleets drawn from the recorded models, each with a model that is new to it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from deployments.store.evidence import Integers, Snapshot
from ops.bench.exploring.worth import Fit, worthwhile
from ops.bench.routing.data import FOLDS, Data, five_folds
from serve.routing.arrays import Floats

_MODELS = 5
_PAST = 2000  # queries at most


@dataclass(frozen=True)
class Newcomer:
    """A model of a fleet whose history gains clearly more than none.

    Attributes:
        data: the outcomes of the fleet.
        name: of the fleet.
        model: the column of the newcomer.
        past: rows of past queries.
        later: the other rows of the training folds.
        test: rows of the held-out fold.
        multipliers: prices of quality, in USD.
        full: the fit with all outcomes of the past queries.
        random: of this fleet.
    """

    data: Data
    name: str
    model: int
    past: Integers
    later: Integers
    test: Integers
    multipliers: Floats
    full: Fit
    random: np.random.Generator


def newcomers(data: Data, seeds: range) -> Iterator[Newcomer]:
    """Those of one fleet for each seed; none where no model gains clearly."""
    folds = five_folds(data)
    for seed in seeds:
        random = np.random.default_rng(seed)
        columns = np.sort(random.choice(len(data.prices), _MODELS, replace=False))
        fleet = of_models(data, columns)
        train, test = folds[seed % FOLDS]
        mixed = random.permutation(train)
        past, later = np.sort(mixed[:_PAST]), mixed[_PAST:]
        full = Fit.of(fleet, fleet.snapshot(past))
        name = f"{data.name}, fleet {seed}"
        for model, multipliers in worthwhile(fleet, past, full).items():
            yield Newcomer(fleet, name, model, past, later, test, multipliers, full, random)


def of_models(data: Data, columns: Integers) -> Data:
    """The outcomes of these models alone."""
    return replace(
        data,
        score=data.score[:, columns],
        output_tokens=data.output_tokens[:, columns],
        cost=data.cost[:, columns],
        prices=[data.prices[column] for column in columns],
        answers=data.answers[:, :0],
    )


def hidden(snapshot: Snapshot, model: int, known: Integers) -> Snapshot:
    """The same past queries, but of one model only the outcomes of some rows are known."""
    unknown = np.ones(len(snapshot), np.bool_)
    unknown[known] = False
    quality, tokens, weight = (
        part.copy() for part in (snapshot.quality, snapshot.output_tokens, snapshot.weight)
    )
    quality[unknown, model], tokens[unknown, model], weight[unknown, model] = np.nan, np.nan, 0
    return replace(snapshot, quality=quality, output_tokens=tokens, weight=weight)
