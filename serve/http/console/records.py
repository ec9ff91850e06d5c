"""What the console shows of a request that has ended: plain values, never a key."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from serve.answer import Answer
from serve.http.middleware.access_log import Access
from serve.http.server import Server

_MOST_CHARACTERS = 500  # of a query
_CANCELLED = "cancelled"
# Why a model was chosen, where its strategy gives no reason; see `CHOICES`.
_WHY = {
    "named": "named by the request",
    "only": "the only one that can answer",
    "turn": "its turn",
    "failover": "the first choice couldn't answer",
}


def remembering(server: Server) -> Callable[[Access], None]:
    """Keeps requests for the console, where there is one."""
    recent = server.view.recent

    def remember(access: Access) -> None:
        if server.config.has_console and (record := record_of(access)) is not None:
            recent.add(record)

    return remember


def record_of(access: Access) -> dict[str, Any] | None:
    """What is shown of a request; None if it asked no model. One that was refused because of a
    limit counts as if it had."""
    asking = access.asking
    if asking is None and access.status != 429:
        return None
    error = access.error
    if error is None and not access.whole:
        error = _CANCELLED
    record: dict[str, Any] = {
        "id": (asking and asking.id) or uuid4().hex,
        "at": round(time.time(), 3),
        "key": access.key,
        "path": access.path,
        "asked": access.asked,
        "model": None,
        "strategy": None,
        "reason": None,
        "predicted": None,
        "wanted": access.wanted,
        "prompt_tokens": None,
        "completion_tokens": None,
        "cost": None,
        "first_token_s": None,
        "seconds": access.seconds,
        "attempts": access.attempts,
        "rescued": [],
        "stream": False,
        "status": access.status,
        "error": error,
        "query": None,
    }
    if asking is not None:
        record["stream"] = asking.stream
        record["query"] = asking.query and asking.query[:_MOST_CHARACTERS]
        if (seconds := asking.first_token_s) is not None:
            record["first_token_s"] = round(seconds, 4)
        if asking.answer is not None:
            record |= _of_answer(asking.answer)
    return record


def _of_answer(answer: Answer) -> dict[str, Any]:
    model, ranking, usage = answer.model, answer.ranking, answer.total_usage
    predicted = None
    if model in ranking.quality:
        predicted = {
            "quality": ranking.quality[model],
            "output_tokens": ranking.output_tokens.get(model),
            "cost": ranking.cost.get(model),
        }
    return {
        "model": model,
        "strategy": answer.strategy,
        "reason": answer.reason or _WHY.get(answer.choice),
        "predicted": predicted,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cost": answer.cost,
        "attempts": answer.attempts,
        "rescued": [
            {"from": rescue.model, "error": rescue.error, "mode": rescue.mode}
            for rescue in answer.rescues
        ],
    }
