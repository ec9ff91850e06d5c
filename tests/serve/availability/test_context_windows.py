"""Promise: a replica is asked once for its context window, and no request waits for it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from deployments.config import ModelConfig
from deployments.errors import Unreachable
from serve.availability import context_windows
from serve.availability.context_windows import ContextWindows
from serve.availability.replicas import Availability, ModelState


class Handle:
    """A handle with set answers."""

    def __init__(self, *answers: int | Exception | None) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def context_windows(self, models: list[str]) -> dict[str, int | None]:
        self.asked += 1
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict.fromkeys(models, answer)


def state(replicas: int) -> ModelState:
    return ModelState(available=True, status="HEALTHY", replicas=replicas, message="")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_windows, "_PERIOD_S", 0.001)
    monkeypatch.setattr(context_windows, "_RETRY_S", 0.001)


def watched(
    handles: Mapping[str, Any], states: dict[str, ModelState], **given: int
) -> ContextWindows:
    models = {
        name: ModelConfig(name=name, backend="x", context_window=given.get(name))
        for name in handles
    }
    availability = Availability(models, {name: name for name in models})
    availability.states = states
    watched = ContextWindows(models, handles, availability)
    watched.watch()
    return watched


async def until(known: Mapping[str, int], name: str) -> int:
    async with asyncio.timeout(5):
        while name not in known:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)
    return known[name]


async def test_a_configured_window_is_not_asked_for() -> None:
    handles = {"a": Handle(), "b": Handle(7)}
    found = watched(handles, dict.fromkeys("ab", state(1)), a=5)
    assert await until(found.known, "b") == 7
    assert found.known == {"a": 5, "b": 7}
    assert handles["a"].asked == 0
    assert found.largest("ab") == 7
    assert found.largest("a") == 5
    assert found.largest("") is None


async def test_a_model_scaled_to_zero_is_asked_once_it_runs() -> None:
    handle, states = Handle(7), {"a": state(0)}
    found = watched({"a": handle}, states)
    await asyncio.sleep(0.05)
    assert handle.asked == 0
    states["a"] = state(1)
    assert await until(found.known, "a") == 7


async def test_only_a_failed_question_is_repeated() -> None:
    handles = {"a": Handle(Unreachable("x"), RuntimeError("y"), 7), "b": Handle(None)}
    found = watched(handles, dict.fromkeys("ab", state(1)))
    assert await until(found.known, "a") == 7
    assert handles["a"].asked == 3
    assert handles["b"].asked == 1
    assert "b" not in found.known
