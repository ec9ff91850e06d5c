"""`python -m ops.bench.fitting`."""

import argparse
import json

import numpy as np

from deployments.store.evidence import Floats32, Integers, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench import fitting
from ops.bench.fitting.stores import KINDS, make
from ops.bench.routing.curves import curve, singles, summary
from ops.bench.routing.data import Data
from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import fit_neighbours, refit
from serve.routing.forecast.predictor import NeighbourPredictor, Predictor, price_prior

N_SIMILAR = 16  # the server's default
PLAIN, DEFAULT, CHOSEN = "128 neighbours", "averaged by default", "averaged as chosen"
SMART = "smart"  # averaged as chosen, blended with networks where these help
DIFFERENCES = {"chosen less default": (CHOSEN, DEFAULT), "smart less 128": (SMART, PLAIN)}
COLUMNS = [PLAIN, DEFAULT, CHOSEN, SMART, *DIFFERENCES]


def regrets(snapshot: Snapshot, data: Data) -> dict[str, float]:
    """The regret of each rule in a store, in points of quality, and the differences."""
    prior = price_prior(data.prices)
    chosen, _ = fit_neighbours(snapshot, np.arange(len(snapshot)), prior, N_SIMILAR)
    predicted = {
        PLAIN: _plain(snapshot, data),
        DEFAULT: _predicted(NeighbourPredictor(prior), snapshot, data),
        CHOSEN: _predicted(chosen, snapshot, data),
        SMART: _predicted(refit(snapshot, prior, N_SIMILAR).predictor, snapshot, data),
    }
    best = _aiq(data, data.score, data.cost)
    found = {name: 100 * (best - _aiq(data, *guess)) for name, guess in predicted.items()}
    return found | {name: found[a] - found[b] for name, (a, b) in DIFFERENCES.items()}


def _predicted(rule: Predictor, snapshot: Snapshot, data: Data) -> tuple[Floats, Floats]:
    """(n, m) quality and cost in USD of the new queries."""
    evidence = SnapshotEvidence(snapshot)
    found = evidence.neighbours(data.embeddings, rule.smoothing.n_similar(len(snapshot), N_SIMILAR))
    guess = rule.predict(data.queries, data.embeddings, found, evidence.means())
    return guess.quality, data.predicted_cost(_all(data), guess.output_tokens)


def _plain(snapshot: Snapshot, data: Data) -> tuple[Floats, Floats]:
    """The same by plain means of 128 neighbours, and of all rows where none of these is known."""
    evidence = SnapshotEvidence(snapshot)
    ids = evidence.neighbours(data.embeddings, 128).ids
    quality, tokens = (
        _mean(values[ids], mean)
        for values, mean in (
            (snapshot.quality, evidence.means().quality),
            (snapshot.output_tokens, evidence.means().output_tokens),
        )
    )
    return quality, data.predicted_cost(_all(data), tokens)


def _mean(values: Floats32, otherwise: Floats32) -> Floats:
    """(n, m) means over the neighbours of (n, k, m) values, NaN where unknown."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    mean = np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1)
    filled: Floats = np.where(count > 0, mean, otherwise)
    return filled


def _aiq(data: Data, quality: Floats, cost: Floats) -> float:
    rows = _all(data)
    return summary(curve(data, rows, quality, cost), singles(data, rows))["aiq"]


def _all(data: Data) -> Integers:
    return np.arange(len(data.ids))


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.fitting", description=fitting.__doc__
    )
    parser.add_argument("--seeds", type=int, default=5, help="stores of each kind, at least 2")
    args = parser.parse_args()
    results = {}
    print(f"| regret in points, {args.seeds} stores each | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for name, kind in KINDS.items():
        stores = [regrets(*make(kind, seed)) for seed in range(args.seeds)]
        results[name] = {column: _mean_and_error([s[column] for s in stores]) for column in COLUMNS}
        cells = ("{:.2f} ± {:.2f}".format(*results[name][column]) for column in COLUMNS)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
