"""Promise: a router replica finds a replaced actor again, and never waits long without one."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
import ray
from ray import serve as rayserve
from ray.exceptions import ActorDiedError, PendingCallsLimitExceeded, RayTaskError

from serve.actors import ActorClient, ActorUnavailable


class Method:
    """A method of an actor's handle."""

    def __init__(self, call: Any) -> None:
        self.remote = call


class Handle:
    """A handle whose method `ask` has a set outcome; there are no real handles without Ray."""

    def __init__(self, outcome: object) -> None:
        self._outcome = outcome
        self.ask = Method(self._ask)

    def _ask(self, *args: object) -> Awaitable[object]:
        if isinstance(self._outcome, PendingCallsLimitExceeded):
            raise self._outcome
        return self._answered()

    async def _answered(self) -> object:
        if self._outcome is None:
            await asyncio.Event().wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Handle]:
    """What looking the actor up gives, one after the other; nothing left means no actor."""
    handles: list[Handle] = []

    def look_up(name: str) -> Handle:
        if not handles:
            raise ValueError(f"no actor '{name}'")
        return handles.pop(0)

    monkeypatch.setattr(rayserve, "get_deployment_actor", look_up)
    monkeypatch.setattr(ray, "cancel", lambda ref: None)
    return handles


def client(timeout_s: float = 5.0) -> ActorClient:
    return ActorClient("sequence", timeout_s=timeout_s)


def failed(cause: Exception) -> RayTaskError:
    return RayTaskError("ask", "a traceback", cause)  # type: ignore[no-untyped-call]  # Ray's


async def test_an_actor_is_looked_up_once(found: list[Handle]) -> None:
    found += [Handle("first"), Handle("second")]
    actor = client()
    assert [await actor.call("ask") for _ in range(2)] == ["first", "first"]


async def test_a_dead_actor_is_looked_up_again(found: list[Handle]) -> None:
    found += [Handle(ActorDiedError()), Handle("second")]
    actor = client()
    with pytest.raises(ActorUnavailable, match="died"):
        await actor.call("ask")
    assert await actor.call("ask") == "second"


@pytest.mark.parametrize(
    "outcome", [None, failed(KeyError("x")), PendingCallsLimitExceeded(), ActorDiedError()]
)
async def test_whatever_happens_to_the_actor_the_fallback_is_used(
    found: list[Handle], outcome: object
) -> None:
    found.append(Handle(outcome))
    assert await client(timeout_s=0.01).call_or(lambda: "alone", "ask") == "alone"


async def test_an_actor_that_does_not_exist_yet_is_unavailable(found: list[Handle]) -> None:
    with pytest.raises(ActorUnavailable, match="created"):
        await client().call("ask")


async def test_an_error_that_the_caller_handles_arrives_unchanged(found: list[Handle]) -> None:
    found.append(Handle(failed(KeyError("unknown"))))
    with pytest.raises(KeyError, match="unknown"):
        await client().call("ask", raises=(KeyError,))


async def test_each_found_actor_is_prepared_before_it_is_called(found: list[Handle]) -> None:
    found += [Handle(ActorDiedError()), Handle("second")]
    prepared: list[object] = []
    actor = ActorClient("store", timeout_s=5.0, found=prepared.append)
    for _ in range(2):
        await actor.call_or(lambda: None, "ask")
    assert len(prepared) == 2
