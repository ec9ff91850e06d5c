"""`POST /v1/route` with `"as": "chat"`: what a chat would do now, without doing it."""

from typing import Any

from deployments.contract import ChatRequest
from deployments.messages import UserMessage
from serve.core import Previewed
from serve.dispatch.candidates import AUTO
from serve.http.batches import Batch
from serve.request import Request, RoutingWishes


def chat_of(batch: Batch) -> Request:
    """The chat with the batch's one query."""
    (query,), (names,) = batch.queries, batch.sets()
    chat = ChatRequest(model=AUTO, messages=[UserMessage(role="user", content=query)])
    models = None if names is None else list(names)
    return Request(chat, RoutingWishes(models=models, router=batch.router))


def as_chat(previewed: Previewed) -> dict[str, Any]:
    """The reply: that of a batch with this one query. Candidates are in the order in which they
    would be tried; `score` is what is minimised, the cost less the worth of the quality."""
    question, preview = previewed.question, previewed.preview
    ranking, model = preview.ranking, previewed.ranked[0]
    route: dict[str, Any] = {
        "index": 0,
        "model": model,
        "reason": ranking.reason if model in ranking.models else "a configured fallback",
        "candidates": [_candidate(name, previewed) for name in previewed.ranked],
    }
    if preview.past is not None:
        route["neighbours"] = [
            {"id": id, "similarity": cosine, "query": preview.past.get(id)}
            for id, cosine in preview.near
        ]
    reply = {"object": "list", "as": "chat", "strategy": previewed.strategy}
    if not ranking.quality:
        return {**reply, "multiplier": None, "data": [route]}
    quality, cost = ranking.quality.get(model), ranking.cost.get(model)
    return {
        **reply,
        "performance_requirement": question.requirement,
        "mode": "floor" if question.floor else "mean",
        "quality": quality,
        "shortfall": None if quality is None else max(question.requirement - quality, 0.0),
        "cost": cost,
        "multiplier": preview.multiplier,
        "lower_bound": cost,
        "gap": 0.0,
        "cold_start": preview.cold,
        "data": [route],
    }


def _candidate(name: str, previewed: Previewed) -> dict[str, Any]:
    preview, ranking = previewed.preview, previewed.preview.ranking
    if name not in ranking.quality:
        return {"model": name}
    quality, cost, multiplier = ranking.quality[name], ranking.cost[name], preview.multiplier
    return {
        "model": name,
        "quality": quality,
        "uncertainty": preview.uncertainty[name],
        "output_tokens": ranking.output_tokens[name],
        "cost": cost,
        "score": None if multiplier is None else cost - multiplier * quality,
    }
