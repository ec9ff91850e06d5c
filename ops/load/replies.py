"""What a response says of itself: its first token, its end, who answered, at what cost."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# An event is decoded only if it may say one of these; most only carry a piece of the answer. Within
# the answer's text the quotes would have a backslash before them.
_TELLING = b'"error":', b'"router":', b'"usage":'
_NO_USAGE = b'"usage":null'
_PIECES = "content", "reasoning_content", "reasoning", "tool_calls", "refusal"


@dataclass(slots=True)
class Said:
    """What is known of an answer so far.

    Attributes:
        model: who answered.
        prompt_tokens, completion_tokens: as the model counted them.
        cost: USD.
        quality: predicted for the model, 0 to 1.
        attempts: how often a provider was asked.
        strategy: how the model was chosen.
        error: the error's `code`, or else its `type`.
        done: whether the answer is whole.
    """

    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    quality: float | None = None
    attempts: int | None = None
    strategy: str | None = None
    error: str | None = None
    done: bool = False

    def headers(self, headers: Mapping[str, Any]) -> None:
        """Reads our headers; other servers have none."""
        self.model = headers.get("x-router-model")
        self.strategy = headers.get("x-router-strategy")
        if attempts := headers.get("x-router-attempts"):
            self.attempts = int(attempts)
        if cost := headers.get("x-router-cost"):
            self.cost = float(cost)
        self.quality = _quality(headers.get("x-router-reason") or "", self.model)

    def whole(self, status: int, content: bytes) -> None:
        """Reads the body of a response that isn't a stream."""
        try:
            body = json.loads(content)
        except ValueError:
            self.error = f"http_{status}" if status != 200 else "broken_answer"
            return
        if not isinstance(body, dict):
            body = {}
        if status != 200 or "error" in body:
            self.error = _code(body.get("error")) or f"http_{status}"
            return
        self._object(body)
        self.done = bool(body.get("choices"))
        if not self.done:
            self.error = "broken_answer"

    def event(self, line: bytes, *, first: bool) -> bool:
        """Reads a line of a stream; returns whether it has a piece of the answer.

        Args:
            line: a line of server-sent events, without its end.
            first: whether a piece is still waited for. If not, False may be returned for one.
        """
        if not line.startswith(b"data:"):
            return False
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return False
        if not first and not _tells(data):
            return False
        try:
            event = json.loads(data)
        except ValueError:
            self.error = "broken_stream"
            return False
        if event.get("error"):
            self.error = _code(event["error"]) or "broken_stream"
            return False
        self._object(event)
        deltas = [choice.get("delta") or {} for choice in event.get("choices") or ()]
        return any(delta.get(piece) for delta in deltas for piece in _PIECES)

    def _object(self, event: Mapping[str, Any]) -> None:
        self.model = event.get("model") or self.model
        if usage := event.get("usage"):
            self.prompt_tokens = usage.get("prompt_tokens")
            self.completion_tokens = usage.get("completion_tokens")
        if router := event.get("router"):
            self.model = router.get("model") or self.model
            self.attempts = router.get("attempts", self.attempts)
            self.cost = router.get("cost", self.cost)


def _tells(data: bytes) -> bool:
    if not any(mark in data for mark in _TELLING):
        return False
    return _NO_USAGE not in data.replace(b" ", b"") or b'"error":' in data or b'"router":' in data


def _code(error: Any) -> str | None:
    if not isinstance(error, Mapping):
        return None
    code = error.get("code") or error.get("type")
    return None if code is None else str(code)


def _quality(reason: str, model: str | None) -> float | None:
    """What smart routing predicted of the model: its reason has `MODEL 0.97+-0.02` of two."""
    found = re.search(rf"(?:^|; |then ){re.escape(model or '')} ([0-9.]+)\+-", reason)
    return float(found[1]) if found else None
