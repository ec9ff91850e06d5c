"""The cases: what is asked, by how many callers, what is measured of it, and its goal."""

from collections.abc import Mapping
from dataclasses import dataclass

from ops.bench.overhead.contestants import ENDPOINT, IN_TURN, LITELLM, SMART
from ops.bench.overhead.load import Measured, Target, closed, opened
from ops.bench.overhead.messages import Ask

RATE = 500.0
# How much longer an open loop lasts: long enough for a queue to build up.
_OPEN_TIMES = 12
_DELAY_S = 0.06


@dataclass(frozen=True)
class Case:
    """A kind of load.

    Attributes:
        title: what it is, in words.
        ask: what each request asks for.
        model: which kind of model is asked.
        connections: that are always busy; None for an open loop.
        by_latency: whether the added latency is compared, not the requests a second.
        goal: the ratio to the reference that is wanted, or the share that is answered.
    """

    title: str
    ask: Ask
    model: str = ENDPOINT
    connections: int | None = 32
    by_latency: bool = False
    goal: float = 0.0

    async def load(self, target: Target, seconds: float) -> Measured:
        """Sends the load."""
        if self.connections is None:
            return await opened(target, self.ask, RATE, _OPEN_TIMES * seconds)
        return await closed(target, self.ask, self.connections, seconds)


_SEQUENTIAL = Ask(strategy="sequential")
_SEEN, _NEW = Ask(strategy="smart"), Ask(strategy="smart", new=True)


def _streamed(tokens: int) -> Ask:
    return Ask(tokens, stream=True)


CASES: Mapping[str, Case] = {
    "whole-1": Case("whole, 1 connection", Ask(), connections=1, by_latency=True, goal=0.3),
    "whole-32": Case("whole, 32 connections", Ask(), goal=5),
    "stream16-32": Case("streams of 16 tokens, 32 connections", _streamed(16), goal=6),
    "stream64-32": Case("streams of 64 tokens, 32 connections", _streamed(64), goal=6),
    "litellm-whole-32": Case("LiteLLM model, whole, 32 connections", Ask(), LITELLM, goal=1.5),
    "litellm-stream16-32": Case(
        "LiteLLM model, streams of 16 tokens, 32 connections", _streamed(16), LITELLM, goal=1.5
    ),
    "in-turn-1": Case("one of two in turn, 1 connection", _SEQUENTIAL, IN_TURN, connections=1),
    "in-turn-32": Case("one of two in turn, 32 connections", _SEQUENTIAL, IN_TURN),
    "seen-1": Case("smart, the same query, 1 connection", _SEEN, SMART, connections=1),
    "seen-32": Case("smart, the same query, 32 connections", _SEEN, SMART),
    "new-1": Case("smart, new queries, 1 connection", _NEW, SMART, connections=1),
    "new-32": Case("smart, new queries, 32 connections", _NEW, SMART),
    "open": Case(
        f"{RATE:g} requests/s offered, upstream of {1e3 * _DELAY_S:g} ms",
        Ask(delay_s=_DELAY_S),
        connections=None,
        goal=0.99,
    ),
}
