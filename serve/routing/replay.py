"""What other requirements, other sets of models or one model alone would have cost and scored on
past requests.

Each query is predicted without knowledge of itself, by neighbours, and the target chooses by these
predictions: as smart routing would have that had learned all the rest. Predictions are corrected
by what was seen; see `serve.routing.counterfactual`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Snapshot
from serve.routing.arrays import Floats, Integers
from serve.routing.counterfactual import Estimate, Log, estimate
from serve.routing.forecast.fitting import fit_neighbours
from serve.routing.optimise.batch import assign
from serve.routing.prices import Price, costs, rates

# How far the mean error of predictions may be, where nothing was seen, from where it was: in
# quality, and relative to the cost. Chosen on recorded outcomes, so that the intervals cover the
# truth, which `ops.bench.replay` checks.
_DOUBT, _COST_DOUBT = 0.06, 0.2
_NUDGE = 1 + 1e-9  # just above the multiplier at which two models tie, so the better is chosen


@dataclass(frozen=True, slots=True)
class Requests:
    """n requests whose models were chosen by prediction.

    Attributes:
        query: (n,) rows of the snapshot.
        chosen: (n,) columns of the chosen models.
        propensity: (n,) the probability of each choice, above 0 to 1.
        score: (n,) 0 to 1; NaN where unknown.
        cost: (n,) in USD; NaN where unknown.
    """

    query: Integers
    chosen: Integers
    propensity: Floats
    score: Floats
    cost: Floats


@dataclass(frozen=True, slots=True)
class Target:
    """What might have been chosen.

    Attributes:
        wanted: (n + h, m) 1 for the model of each query, else 0.
        was: whether it is what was chosen.
    """

    wanted: Floats
    was: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a target would have brought, in the mean of all requests.

    Attributes:
        quality: 0 to 1.
        cost: in USD.
        saving: the share that is saved of the cost of always asking the best model.
    """

    quality: Estimate
    cost: Estimate
    saving: Estimate


class Replay:
    """Past requests, and what is known to judge other choices by. Making it takes seconds.

    Args:
        snapshot: past queries, with those of the requests; texts aren't needed.
        requests: what was chosen.
        input_tokens: (q,) lengths of the snapshot's prompts.
        prices: of the m models.
        prior: (m,) prior qualities, 0 to 1.
        n_similar: the fewest past queries to predict from.

    Attributes:
        known: columns of the models with a score; of others nothing can be said.
        best: the column of the model that is surely best: of the highest quality that its interval
            begins with.

    Raises:
        ValueError: there are no requests, or no scores.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        requests: Requests,
        input_tokens: Floats,
        prices: Sequence[Price],
        prior: npt.ArrayLike,
        n_similar: int,
    ) -> None:
        self.known = np.flatnonzero((~np.isnan(snapshot.quality)).any(axis=0))
        if not self.known.size:
            raise ValueError("no answer has been scored, so nothing is known of quality")
        count = len(snapshot)
        _, self._past = fit_neighbours(snapshot, np.arange(count), prior, n_similar)
        rate = rates(prices)
        self._cost = costs(rate, input_tokens, self._past.output_tokens)
        real_cost = costs(rate, input_tokens, snapshot.output_tokens.astype(np.float64))
        self._requests = requests
        others = np.setdiff1d(np.arange(count), requests.query)
        self._rows = np.concatenate([requests.query, others])
        seen = requests.chosen, requests.propensity
        quality, cost = self._past.quality[self._rows], self._cost[self._rows]
        self._quality_log = Log(*seen, requests.score, quality, self._past.truth[others], _DOUBT)
        self._cost_log = Log(
            *seen, requests.cost, cost, real_cost[others], _COST_DOUBT, relative=True
        )
        self._models = len(prices)
        alone = {int(column): self.always(int(column)) for column in self.known}
        qualities = {
            column: estimate(self._quality_log, target.wanted) for column, target in alone.items()
        }
        self.best = max(qualities, key=lambda column: qualities[column].interval[0])
        self._best = alone[self.best]

    def as_it_was(self) -> Target:
        """What was chosen."""
        wanted = np.zeros((len(self._rows), self._models))
        wanted[np.arange(len(self._requests.chosen)), self._requests.chosen] = 1.0
        return Target(wanted, was=True)

    def always(self, column: int) -> Target:
        """One model for all requests."""
        return self._target(np.full(len(self._rows), column))

    def requirement(self, requirement: float, columns: npt.ArrayLike) -> Target:
        """The cheapest of some models by which the requests hold a mean quality.

        Args:
            requirement: 0 to 1.
            columns: of the models that may be chosen.

        Raises:
            ValueError: the requirement is not between 0 and 1, or no such model is known.
        """
        allowed = np.intersect1d(columns, self.known)
        if not allowed.size:
            raise ValueError("no answer of these models has been scored")
        optimism = self._past.optimism(self._cost, requirement, allowed)
        aim = min(max(requirement + optimism, 0.0), 1.0) if 0 <= requirement <= 1 else requirement
        quality = self._past.quality[np.ix_(self._rows, allowed)]
        cost = self._cost[np.ix_(self._rows, allowed)]
        n = len(self._requests.chosen)
        multiplier = assign(quality[:n], cost[:n], aim).multiplier * _NUDGE
        price = cost - multiplier * quality if np.isfinite(multiplier) else -quality
        return self._target(allowed[price.argmin(axis=1)])

    def outcome(self, target: Target) -> Outcome:
        """What a target would have brought."""
        quality_log, cost_log = self._quality_log, self._cost_log
        if target.was:  # so it was no matter of chance
            certain = np.ones(len(self._requests.chosen))
            quality_log = replace(quality_log, propensity=certain)
            cost_log = replace(cost_log, propensity=certain)
        cost, best = estimate(cost_log, target.wanted), estimate(self._cost_log, self._best.wanted)
        share = cost.mean / best.mean if best.mean else 1.0
        # The error of a ratio is that of the difference from what it makes of the denominator.
        difference = estimate(cost_log, target.wanted - share * self._best.wanted)
        error = difference.error / best.mean if best.mean else 0.0
        saving = Estimate(1 - share, error, min(cost.seen, best.seen))
        return Outcome(estimate(quality_log, target.wanted), cost, saving)

    def _target(self, choice: Integers) -> Target:
        wanted = np.zeros((len(choice), self._models))
        wanted[np.arange(len(choice)), choice] = 1.0
        return Target(wanted)
