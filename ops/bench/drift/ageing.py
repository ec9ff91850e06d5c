"""What half-lives of scores are worth where a model changes behind its name, and where none does.

Each query is asked once. The model whose predicted quality, less its cost at a fixed rate, is most
is asked, or one that is explored, and only its answer is scored. Neighbours alone predict, by what
was known the evening before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deployments.store.ageing import Ageing
from deployments.store.evidence import Floats32, Neighbours, Snapshot
from deployments.store.memory.nearest import nearest
from deployments.store.observations import Scored
from ops.bench.drift.changing import CHANGES, Change, World, recorded, synthetic
from serve.routing.arrays import Floats, Integers
from serve.routing.forecast.changes import Changes
from serve.routing.forecast.predictor import NeighbourPredictor, default_n_similar
from serve.routing.optimise.exploring import Explorer

_RUNS = 4  # with other random numbers
_HISTORY = 500  # queries that all models have answered, before the first day
_BEFORE, _AFTER = 60, 40  # days
_WINDOWS = {  # days after the change
    "30 days before": (-30, 0),
    "days 1 to 7 after": (0, 7),
    "days 8 to 21": (7, 21),
    "days 22 to 40": (21, _AFTER),
}
_EXPLORATION = 0.01  # as configured by default
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Way:
    """What becomes of old scores.

    Attributes:
        half_life: in days; None if they don't age.
        forgets: whether a model's scores so far, but those that told of it, are forgotten as soon
            as a change is noticed.
    """

    half_life: float | None = None
    forgets: bool = False


@dataclass(frozen=True)
class Run:
    """What was chosen: each (n,), of the queries after the history.

    Attributes:
        value: expected quality less expected cost, in units of quality.
        cost: expected, in USD.
        day: on which it was asked; 0 is that of the change.
    """

    value: Floats
    cost: Floats
    day: Integers

    def means(self) -> Floats:
        """(w,) mean value in each of the windows."""
        inside = ((self.day >= first) & (self.day < last) for first, last in _WINDOWS.values())
        return np.array([self.value[which].mean() for which in inside])

    def cost_after(self) -> float:
        """Mean cost after the change, in USD."""
        return float(self.cost[self.day >= 0].mean())


_PLAIN = "none"
_WAYS = {
    _PLAIN: Way(),
    **{f"{days} days": Way(half_life=days) for days in (7, 30, 90)},
    "none; forgotten when noticed": Way(forgets=True),
}
_SYNTHETIC = 90, 300  # scored answers a day
_RECORDED = 90  # with which about all queries are asked

Runs = Mapping[str, Mapping[str, Run]]
"""By change and way."""
Found = Mapping[tuple[str, int], Sequence[Runs]]
"""By the queries and the scored answers a day, with other random numbers each."""


def measure(folder: Path | None, cache: Path) -> Found:
    """Runs all, with recorded outcomes if there is a folder; takes minutes."""
    seeds = range(_RUNS)
    found = {
        ("synthetic", a_day): [runs(synthetic(queries_for(a_day), seed), a_day) for seed in seeds]
        for a_day in _SYNTHETIC
    }
    if folder is not None:
        worlds = [recorded(folder, cache, seed) for seed in seeds]
        found[worlds[0].name, _RECORDED] = [runs(world, _RECORDED) for world in worlds]
    return found


def queries_for(a_day: int) -> int:
    """How many queries a run needs with so many scored answers a day."""
    return _HISTORY + (_BEFORE + _AFTER) * a_day


def runs(world: World, a_day: int) -> Runs:
    """All changes and ways, on the same queries.

    Args:
        world: with at least `queries_for(a_day)` queries.
        a_day: scored answers.
    """
    stream = _Stream(world, a_day)
    return {
        name: {way: stream.run(change, of) for way, of in _WAYS.items()}
        for name, change in CHANGES[world.name].items()
    }


class _Stream:
    """The queries of one world, with their neighbours among those before."""

    def __init__(self, world: World, a_day: int) -> None:
        self._world = world
        days = np.repeat(np.arange(-_BEFORE, _AFTER), a_day)
        self._day = np.concatenate([np.full(_HISTORY, -_BEFORE - 1), days])
        self._rows = [np.flatnonzero(self._day == day) for day in range(-_BEFORE, _AFTER)]
        self._near = [
            nearest(world.embeddings[rows], world.embeddings[: rows[0]], default_n_similar(rows[0]))
            for rows in self._rows
        ]

    def run(self, change: Change, way: Way) -> Run:
        n, m, world = len(self._day), len(self._world.prior), self._world
        changed, multiplier = change(world), world.multiplier
        predictor, changes = NeighbourPredictor(world.prior), Changes()
        explorer = Explorer(_EXPLORATION, np.random.default_rng(0).random)
        known = np.full((n, m), np.nan, np.float32)
        known[:_HISTORY] = world.score[:_HISTORY]
        chosen = np.zeros(n, np.int64)
        for rows, near in zip(self._rows, self._near, strict=True):
            snapshot = self._snapshot(known, rows[0], way.half_life)
            found = Neighbours(*near, snapshot.outcomes(near[0].ravel()))
            means = snapshot.means()
            guess = predictor.predict([], world.embeddings[rows], found, means)
            now = world if self._day[rows[0]] < 0 else changed
            for row, quality in zip(rows, guess.quality, strict=True):
                order = np.argsort(world.cost[row] - multiplier * quality).tolist()
                pick = explorer.pick(order, quality, world.cost[row], multiplier, means.count)
                model, score = pick.column, float(now.score[row, pick.column])
                chosen[row], known[row, model] = model, score
                scored = Scored(str(model), float(quality[model]), None, None)
                if way.forgets and (noticed := changes.score(scored, score)) is not None:
                    asked = np.flatnonzero(~np.isnan(known[:, model]))
                    known[asked[: -noticed.scores], model] = np.nan
        asked = np.arange(_HISTORY, n)
        at, day = (asked, chosen[asked]), self._day[asked]
        quality = np.where(day < 0, world.quality[at], changed.quality[at])
        cost = world.cost[at]
        return Run(quality - cost / multiplier, cost, day)

    def _snapshot(self, known: Floats32, rows: int, half_life: float | None) -> Snapshot:
        """What is known when these many queries have been asked."""
        quality, weight = known[:rows], (~np.isnan(known[:rows])).astype(np.float32)
        freshness = None
        if half_life is not None:
            ageing = Ageing(half_life * _DAY_S, float(self._day[rows]) * _DAY_S)
            fresh = ageing.freshness((self._day[:rows] + 0.5) * _DAY_S)
            freshness = np.broadcast_to(fresh[:, None], quality.shape)
        lengths = np.full_like(quality, np.nan)  # costs are known
        return Snapshot(
            [], self._world.embeddings[:rows], quality, lengths, weight, freshness=freshness
        )


def rows(found: Found) -> list[dict[str, Any]]:
    """What to report of each queries, rate, change and way: the mean values, without ageing or what
    a way adds to those, with standard errors over the runs; and the cost after the change, relative
    to that without ageing."""
    reported = []
    for (name, a_day), several in found.items():
        for change in several[0]:
            plain = [of[change][_PLAIN] for of in several]
            for way in _WAYS:
                mine = [of[change][way] for of in several]
                values = np.array([run.means() for run in mine])
                if way != _PLAIN:
                    values = values - np.array([run.means() for run in plain])
                costs = [float(np.mean([run.cost_after() for run in of])) for of in (mine, plain)]
                reported.append(
                    {
                        "queries": name,
                        "a day": a_day,
                        "change": change,
                        "half-life": way,
                        "value": values.mean(axis=0).tolist(),
                        "error": (values.std(axis=0, ddof=1) / len(values) ** 0.5).tolist(),
                        "cost": costs[0] / costs[1],
                    }
                )
    return reported


def table(reported: Sequence[Mapping[str, Any]]) -> str:
    """What `rows` gave, as Markdown."""
    names = ("queries", "a day", "change", "half-life")
    head = (*names, *_WINDOWS, "cost after")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in reported:
        cells = [
            f"{value:.3f}" if row["half-life"] == _PLAIN else f"{value:+.3f} ± {error:.3f}"
            for value, error in zip(row["value"], row["error"], strict=True)
        ]
        cells = [*(str(row[name]) for name in names), *cells, f"{row['cost']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
