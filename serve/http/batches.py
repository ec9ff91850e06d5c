"""`POST /v1/route`: its body, and its reply."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from deployments.errors import InvalidRequest
from deployments.free_form import at_most
from serve.request import RouterOptions
from serve.routing.batches import Routes
from serve.routing.strategy import BatchQuestion, Ranking

MOST_QUERIES, MOST_NAMES, MOST_CAPACITIES = 4096, 100, 1000

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1, max_length=MOST_NAMES)]
Query = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Batch(BaseModel):
    """The body. `models` is one list for all queries, or one for each; without it, all models may
    answer. `capacities` are the most queries that each model may get. With `"as": "chat"` the
    reply says what a chat with the one query would do now."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    queries: Annotated[list[Query], Field(min_length=1, max_length=MOST_QUERIES)]
    models: Names | Annotated[list[Names], Field(min_length=1, max_length=MOST_QUERIES)] | None = (
        None
    )
    input_tokens: Annotated[list[Number], Field(max_length=MOST_QUERIES)] | None = None
    capacities: (
        Annotated[dict[str, Annotated[int, Field(ge=0, lt=2**63)]], at_most(MOST_CAPACITIES)] | None
    ) = None
    router: RouterOptions = RouterOptions()
    as_: Annotated[Literal["batch", "chat"], Field(alias="as")] = "batch"

    @model_validator(mode="after")
    def _lengths_match(self) -> "Batch":
        n = len(self.queries)
        if self.input_tokens is not None and len(self.input_tokens) != n:
            raise ValueError(
                f"there are {n} queries, but {len(self.input_tokens)} input_tokens; give one for "
                "each query, or leave input_tokens out"
            )
        if self.models and not isinstance(self.models[0], str) and len(self.models) != n:
            raise ValueError(
                f"there are {n} queries, but {len(self.models)} lists of models; give one list for "
                "all queries, or one for each"
            )
        if self.as_ == "chat":
            if n != 1:
                raise ValueError('`"as": "chat"` takes one query')
            if self.input_tokens is not None or self.capacities is not None:
                raise ValueError(
                    '`"as": "chat"` takes neither input_tokens nor capacities; leave them out'
                )
        if self.capacities is not None and self.router.floor:
            raise ValueError("capacities can only be used with the mode 'mean'")
        return self

    @property
    def options(self) -> set[str]:
        """The options that only some strategies understand."""
        return self.router.given | ({"capacities"} if self.capacities is not None else set())

    def sets(self) -> list[tuple[str, ...] | None]:
        """The names of the models that may answer each query; None stands for all models."""
        if self.models is not None and not isinstance(self.models[0], str):
            return [tuple(names) for names in self.models]
        return [None if self.models is None else tuple(self.models)] * len(self.queries)

    def question(
        self, candidates: Sequence[Sequence[str]], default_requirement: float
    ) -> BatchQuestion:
        """What to decide.

        Args:
            candidates: the available models for each query.
            default_requirement: the quality wanted if the body does not say.
        """
        wanted = self.router.performance_requirement
        return BatchQuestion(
            self.queries,
            candidates,
            default_requirement if wanted is None else wanted,
            self.router.floor,
            self.input_tokens,
            self.capacities,
        )


def check_capacities(batch: Batch, models: Collection[str]) -> None:
    """Raises InvalidRequest if the batch has capacities for models that are not the caller's."""
    if unknown := (batch.capacities or {}).keys() - set(models):
        raise InvalidRequest(f"there is no model '{min(unknown)}'", param="capacities")


def reply(question: BatchQuestion, routes: Routes | list[Ranking]) -> dict[str, Any]:
    """The reply: figures of the whole batch, then each query's choice and candidates.

    Without predictions there are no figures, and the candidates are in order, best first. Past
    queries are shown only if the server is configured to: a similarity of 1 alone would reveal that
    someone has asked this very question.
    """
    if isinstance(routes, list):
        return {"object": "list", "data": [_ranked(row, r) for row, r in enumerate(routes)]}
    assignment, prediction = routes.assignment, routes.prediction
    data = []
    for row, allowed in enumerate(routes.allowed):
        candidates = [
            {
                "model": routes.models[column],
                "quality": float(prediction.quality[row, column]),
                "uncertainty": float(prediction.uncertainty[row, column]),
                "output_tokens": float(prediction.output_tokens[row, column]),
                "cost": float(routes.cost[row, column]),
            }
            for column in np.flatnonzero(allowed)
        ]
        route = {
            "index": row,
            "model": routes.models[assignment.choice[row]],
            "reason": _reason(question, routes, row),
            "candidates": candidates,
        }
        if routes.past is not None:
            route["neighbours"] = _neighbours(routes, row, routes.past)
        data.append(route)
    return {
        "object": "list",
        "performance_requirement": question.requirement,
        "mode": "floor" if question.floor else "mean",
        "quality": assignment.quality,
        "shortfall": assignment.shortfall,
        "cost": assignment.cost,
        "multiplier": _finite(assignment.multiplier),
        "lower_bound": assignment.lower_bound,
        "gap": _finite(assignment.gap),
        "cold_start": routes.cold,
        "data": data,
    }


def _ranked(row: int, ranking: Ranking) -> dict[str, Any]:
    candidates = [{"model": model} for model in ranking.models]
    return {
        "index": row,
        "model": ranking.models[0],
        "reason": ranking.reason,
        "candidates": candidates,
    }


def _neighbours(routes: Routes, row: int, past: Mapping[int, str]) -> list[dict[str, Any]]:
    near = zip(routes.near[row].tolist(), routes.similarity[row].tolist(), strict=True)
    return [{"id": id, "similarity": cosine, "query": past.get(id)} for id, cosine in near]


def _reason(question: BatchQuestion, routes: Routes, row: int) -> str:
    """Why a query got its model, in one line."""
    start = "cold start, quality is estimated from prices: " if routes.cold else ""
    if routes.allowed[row].sum() == 1:
        return start + "the only candidate"
    wanted = question.requirement
    if question.floor:
        if routes.prediction.quality[row, routes.assignment.choice[row]] >= wanted:
            return f"{start}the cheapest with a quality of at least {wanted:g}"
        return f"{start}the best; none reaches {wanted:g}"
    multiplier = routes.assignment.multiplier
    if question.capacities is not None:
        start += "within the capacities, "
    if multiplier == 0:
        return f"{start}the cheapest; cheapest choices reach {wanted:g} on average"
    if math.isinf(multiplier):
        return f"{start}the best; even the best choices miss {wanted:g} on average"
    return f"{start}the lowest cost minus {multiplier:.3g} USD per unit of quality"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
