"""`POST /v1/route`: from its body to a question for the decider, and from its answer to a reply."""

import math
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from deployments.errors import InvalidRequest
from deployments.free_form import at_most
from serve.request import RouterOptions
from serve.routing.arrays import Booleans
from serve.routing.decider import Routes

MOST_QUERIES, MOST_NAMES, MOST_CAPACITIES = 4096, 100, 1000

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1, max_length=MOST_NAMES)]
Query = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Batch(BaseModel):
    """The body. `models` is one list for all queries or one for each; all models without it.
    `capacities` are the most queries that a model may get."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    queries: Annotated[list[Query], Field(min_length=1, max_length=MOST_QUERIES)]
    models: Names | Annotated[list[Names], Field(min_length=1, max_length=MOST_QUERIES)] | None = (
        None
    )
    input_tokens: Annotated[list[Number], Field(max_length=MOST_QUERIES)] | None = None
    capacities: (
        Annotated[dict[str, Annotated[int, Field(ge=0)]], at_most(MOST_CAPACITIES)] | None
    ) = None
    router: RouterOptions = RouterOptions()

    @model_validator(mode="after")
    def _lengths_match(self) -> "Batch":
        n = len(self.queries)
        if self.input_tokens is not None and len(self.input_tokens) != n:
            raise ValueError(f"{n} queries, but {len(self.input_tokens)} input_tokens")
        if self.models and not isinstance(self.models[0], str) and len(self.models) != n:
            raise ValueError(f"{n} queries, but {len(self.models)} lists of models")
        if self.router.strategy == "sequential":
            raise ValueError("/v1/route is of smart routing; leave router.strategy out")
        if self.capacities is not None and self.router.floor:
            raise ValueError("capacities go with mode 'mean' only")
        return self

    def candidates(self, everyone: Sequence[str]) -> list[tuple[str, ...]]:
        """The names allowed for each query."""
        if self.models is not None and not isinstance(self.models[0], str):
            return [tuple(names) for names in self.models]
        one = tuple(everyone if self.models is None else self.models)
        return [one] * len(self.queries)


def allowed(candidates: Sequence[Sequence[str]], models: Sequence[str]) -> Booleans:
    """(n, m) whether a model is among a query's candidates."""
    column = {model: index for index, model in enumerate(models)}
    mask = np.zeros((len(candidates), len(models)), np.bool_)
    for row, names in enumerate(candidates):
        mask[row, [column[name] for name in names]] = True
    return mask


def check_capacities(batch: Batch, models: Collection[str]) -> None:
    """Raises InvalidRequest where one is given for what is none of the caller's models."""
    if unknown := (batch.capacities or {}).keys() - set(models):
        raise InvalidRequest(f"there is no model '{min(unknown)}'", param="capacities")


def capacities(batch: Batch, models: Sequence[str]) -> list[float] | None:
    """(m,) most queries of each model."""
    if batch.capacities is None:
        return None
    return [batch.capacities.get(model, math.inf) for model in models]


def reply(
    batch: Batch,
    routes: Routes,
    mask: Booleans,
    models: Sequence[str],
    requirement: float,
    texts: dict[int, str] | None,
) -> dict[str, Any]:
    """The reply: the batch as a whole, then every query's choice and what it was chosen from.

    Without `texts` nothing of past queries is shown: even a similarity of 1 alone would tell that
    somebody has asked this very question.
    """
    assignment = routes.assignment
    whole = {
        "object": "list",
        "performance_requirement": requirement,
        "mode": batch.router.mode,
        "quality": assignment.quality,
        "shortfall": assignment.shortfall,
        "cost": assignment.cost,
        "multiplier": _finite(assignment.multiplier),
        "lower_bound": assignment.lower_bound,
        "gap": _finite(assignment.gap),
        "cold_start": routes.cold,
    }
    data = []
    for row, query_mask in enumerate(mask):
        candidates = [
            {
                "model": models[column],
                "quality": float(routes.prediction.quality[row, column]),
                "uncertainty": float(routes.prediction.uncertainty[row, column]),
                "output_tokens": float(routes.prediction.output_tokens[row, column]),
                "cost": float(routes.cost[row, column]),
            }
            for column in np.flatnonzero(query_mask)
        ]
        chosen = models[assignment.choice[row]]
        route = {
            "index": row,
            "model": chosen,
            "reason": _reason(batch, routes, chosen, candidates, requirement),
            "candidates": candidates,
        }
        if texts is not None:
            route["neighbours"] = _neighbours(routes, row, texts)
        data.append(route)
    return {**whole, "data": data}


def _neighbours(routes: Routes, row: int, texts: dict[int, str]) -> list[dict[str, Any]]:
    near = zip(routes.near[row].tolist(), routes.similarity[row].tolist(), strict=True)
    return [{"id": id, "similarity": cosine, "query": texts.get(id)} for id, cosine in near]


def _reason(
    batch: Batch,
    routes: Routes,
    chosen: str,
    candidates: Sequence[dict[str, Any]],
    requirement: float,
) -> str:
    start = "cold start, qualities are guessed from prices: " if routes.cold else ""
    if len(candidates) == 1:
        return start + "the only candidate"
    quality = next(one["quality"] for one in candidates if one["model"] == chosen)
    if batch.router.floor:
        if quality >= requirement:
            return f"{start}the cheapest with a quality of at least {requirement:g}"
        return f"{start}none reaches {requirement:g}; the best"
    multiplier = routes.assignment.multiplier
    if batch.capacities is not None:
        start += "within the capacities, "
    if multiplier == 0:
        return f"{start}the cheapest; all cheapest ones together hold {requirement:g}"
    if math.isinf(multiplier):
        return f"{start}the best; all best ones together fall short of {requirement:g}"
    return f"{start}the least of cost less {multiplier:.3g} USD for each unit of quality"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
