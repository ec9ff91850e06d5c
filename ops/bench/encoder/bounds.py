"""What knowing more of a query than its text would bring: its category, or how other models did.

None of it is known when a request comes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from deployments.store.evidence import Integers
from ops.bench.encoder.comparing import Predicted
from ops.bench.routing.curves import singles
from ops.bench.routing.data import Data, five_folds
from serve.routing.arrays import Floats

_SHRINKAGE = 10.0  # answers; the weight of a model's mean within its mean of a category
_RIDGE = 10.0


def categories(name: str, folder: Path) -> Integers:
    """(n,) the category that each query of a file comes from, by number."""
    from pyarrow.parquet import read_table

    table = read_table(folder / f"{name}.parquet", columns=["task", "domain"]).to_pydict()
    pairs = zip(table["task"], table["domain"], strict=True)
    numbers: Integers = np.unique(["/".join(pair) for pair in pairs], return_inverse=True)[1]
    return numbers


def category_means(data: Data, category: Integers) -> Floats:
    """(n, m) each model's mean in the query's category on the other folds, shrunk to its mean.

    Args:
        data: the recorded outcomes.
        category: (n,) of each query. With a single one, the models' means are all that is known.
    """
    quality = np.zeros(data.score.shape)
    for train, test in five_folds(data):
        everywhere = data.score[train].mean(axis=0)
        for number in np.unique(category[test]):
            scores = data.score[train[category[train] == number]]
            total = scores.sum(axis=0) + _SHRINKAGE * everywhere
            quality[test[category[test] == number]] = total / (len(scores) + _SHRINKAGE)
    return quality


def efficient(data: Data) -> Integers:
    """Columns of the models that no other one beats in mean cost and mean quality."""
    alone = singles(data, np.arange(len(data.ids)))
    beaten = [((alone[:, 0] <= cost) & (alone[:, 1] > quality)).any() for cost, quality in alone]
    return np.flatnonzero(~np.array(beaten))


def of_models(data: Data, smart: Predicted, models: Integers) -> tuple[Data, Predicted]:
    """The data and the predictions of these models alone."""
    part = replace(
        data,
        score=data.score[:, models],
        cost=data.cost[:, models],
        output_tokens=data.output_tokens[:, models],
        prices=[data.prices[model] for model in models],
        answers=np.zeros((len(data.ids), 0), np.int64),
    )
    return part, Predicted(smart.quality[:, models], smart.cost[:, models])


def informed(data: Data, smart: Predicted, models: Integers) -> Floats:
    """(n, len(models)) what is predicted by one who also knows how all other models answered the
    query itself: a ridge regression on their scores, their mean's powers, and smart's predictions.

    The models to choose among tell nothing: each would be predicted without its own score, and so
    look worse than the others on just the queries that it answers well.
    """
    others = np.delete(data.score, models, axis=1)
    mean = others.mean(axis=1, keepdims=True)
    inputs = np.hstack([others, mean**2, mean**3, smart.quality])
    quality = np.zeros((len(inputs), len(models)))
    for train, test in five_folds(data):
        quality[test] = _ridge(inputs[train], data.score[np.ix_(train, models)], inputs[test])
    return quality


def _ridge(inputs: Floats, truth: Floats, new: Floats) -> Floats:
    centre = inputs.mean(axis=0)
    apart, usual = inputs - centre, truth.mean(axis=0)
    squares = apart.T @ apart + _RIDGE * np.eye(apart.shape[1])
    guess: Floats = (new - centre) @ np.linalg.solve(squares, apart.T @ (truth - usual)) + usual
    return guess
