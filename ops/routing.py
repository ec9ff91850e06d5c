"""The command `routing replay`: what other choices would have cost on past requests, and scored."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from deployments.store.ageing import Ageing
from deployments.store.evidence import Floats32, Snapshot
from deployments.store.sql.choices import Choices
from deployments.store.sql.database import Database
from deployments.store.sql.reading import Batch
from ops.cli.app import alone
from serve.config import DEFAULT_CONFIG, load_config
from serve.config.app import LLMs
from serve.routing.forecast.predictor import price_prior
from serve.routing.prices import prices_of
from serve.routing.replay import Outcome, Replay, Requests

MOST_REQUESTS, MOST_QUERIES = 4_000, 6_000  # more would take longer than ten seconds
_TITLES = "quality", "USD for 1,000", "saved, %", "seen, %"
_LEGEND = "± is a 95 % interval. seen: how much of it had a chance to be tried and scored."


def replay(
    file: str | None,
    *,
    requirements: Sequence[float],
    models: Sequence[str] | None,
    as_json: bool,
) -> None:
    """Prints what each target would have brought; ends with one line for what can't be told.

    Args:
        file: a YAML file with `llms:`; None for the demo.
        requirements: mean qualities to hold, 0 to 1; without any, the configured one.
        models: names that may be chosen for them; None is all.
    """
    try:
        llms = load_config({"config": file or str(DEFAULT_CONFIG)}).llms
        past = _Past.of(llms)
        wanted = requirements or [llms.router.performance_requirement]
        found = _outcomes(past, wanted, past.columns(models))
    except (ValueError, OSError) as error:  # ConfigError, NoStore; OSError: DatabaseUnavailable
        sys.exit(str(error))
    print(json.dumps(_described(past, found)) if as_json else _table(past, found))


@dataclass(frozen=True, slots=True)
class _Past:
    """A store's requests, ready to be replayed."""

    url: str
    names: list[str]
    choices: Choices
    replay: Replay

    @classmethod
    def of(cls, llms: LLMs) -> "_Past":
        """Reads the store of a configuration.

        Raises:
            ValueError: there is no store, or nothing in it to replay.
        """
        if llms.store is None:
            raise ValueError("these requests are not routed by prediction: there is no llms.store")
        served = {model.name: model for model in llms.served if not model.embeds}
        prices = prices_of(llms.models)
        names = [name for name in served if name in prices]
        database = Database(
            llms.store.resolved_url(), identities={name: served[name].identity for name in names}
        )
        try:
            choices = database.choices(MOST_REQUESTS, MOST_QUERIES)
            batch = database.batch(choices.past_ids.tolist(), names)
        finally:
            database.close()
        if not len(choices.columns):
            raise ValueError(
                f"{database.url} has no requests to replay: answers are kept for two days, and "
                "only those count whose model was chosen by prediction among several"
            )
        own = [served[name].prior_quality for name in names]
        guessed = price_prior([prices[name] for name in names])
        prior = [g if o is None else o for o, g in zip(own, guessed, strict=True)]
        replay = Replay(
            _snapshot(batch, len(names), Ageing.at_present(llms.store.half_life_days)),
            _requests(choices),
            _filled(choices.input_tokens),
            [prices[name] for name in names],
            prior,
            llms.router.n_similar,
        )
        return cls(database.url, names, choices, replay)

    def columns(self, models: Sequence[str] | None) -> list[int]:
        """Of these models, or of all.

        Raises:
            ValueError: one is not configured.
        """
        for name in models or ():
            if name not in self.names:
                raise ValueError(f"there is no model '{name}'; there are: {', '.join(self.names)}")
        return [self.names.index(name) for name in models or self.names]


def _requests(choices: Choices) -> Requests:
    at = np.searchsorted(choices.past_ids, choices.query_ids)
    return Requests(at, choices.columns, choices.propensity, choices.score, choices.cost)


def _snapshot(batch: Batch, models: int, ageing: Ageing | None) -> Snapshot:
    at, shape = (batch.rows, batch.columns), (len(batch.ids), models)

    def dense(values: Any, unknown: float) -> Floats32:
        full = np.full(shape, unknown, np.float32)
        full[at] = values
        return full

    return Snapshot(
        [""] * len(batch.ids),
        batch.embeddings.astype(np.float32),
        dense(batch.quality, np.nan),
        dense(batch.output_tokens, np.nan),
        dense(batch.counts, 0),
        freshness=None if ageing is None else dense(ageing.freshness(batch.scored_at), 0),
    )


def _filled(tokens: Any) -> Any:
    """Unknown lengths of prompts become the mean of the known ones."""
    known = tokens[~np.isnan(tokens)]
    return np.where(np.isnan(tokens), known.mean() if known.size else 0.0, tokens)


def _outcomes(
    past: _Past, requirements: Sequence[float], columns: Sequence[int]
) -> dict[str, Outcome]:
    replay = past.replay
    targets = {"as it was": replay.as_it_was()}
    for requirement in requirements:
        name = f"requirement {requirement:g}"
        targets[name] = replay.requirement(requirement, columns)
    for column in replay.known.tolist():
        targets[f"always {past.names[column]}"] = replay.always(column)
    return {name: replay.outcome(target) for name, target in targets.items()}


def _described(past: _Past, found: dict[str, Outcome]) -> dict[str, Any]:
    return {
        "store": past.url,
        "requests": past.choices.total,
        "sampled": len(past.choices.columns),
        "scored": int((~np.isnan(past.choices.score)).sum()),
        "best": past.names[past.replay.best],
        "targets": {
            name: {
                what: {"mean": one.mean, "interval": one.interval, "seen": one.seen}
                for what, one in (
                    ("quality", outcome.quality),
                    ("cost", outcome.cost),
                    ("saving", outcome.saving),
                )
            }
            for name, outcome in found.items()
        },
    }


def _table(past: _Past, found: dict[str, Outcome]) -> str:
    choices = past.choices
    first, last = (datetime.fromtimestamp(at) for at in (choices.at.min(), choices.at.max()))
    scored = (~np.isnan(choices.score)).sum()
    width = max(map(len, found))
    lines = [
        past.url,
        f"{len(choices.columns):,} of {choices.total:,} requests, {scored:,} of them scored, "
        f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}",
        "",
        f"{'':{width}}" + "".join(f"{title:>19}" for title in _TITLES),
    ]
    for name, outcome in found.items():
        cells = [
            f"{one.mean * scale:,.{places}f} ± {1.96 * one.error * scale:,.{places}f}"
            for one, scale, places in (
                (outcome.quality, 1, 3),
                (outcome.cost, 1000, 4),
                (outcome.saving, 100, 1),
            )
        ]
        cells.append(f"{100 * outcome.quality.seen:.0f}")
        lines.append(f"{name:{width}}" + "".join(f"{cell:>19}" for cell in cells))
    best = past.names[past.replay.best]
    lines += ["", f"saved: of the cost of always asking {best}, surely the best. {_LEGEND}"]
    silent = [name for at, name in enumerate(past.names) if at not in past.replay.known]
    if silent:
        lines.append(f"never scored, so nothing can be told of them: {', '.join(silent)}")
    return "\n".join(lines)


if __name__ == "__main__":
    alone("routing", "ops.routing")
