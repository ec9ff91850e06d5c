"""A router replica's access to the store's actor."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle

from deployments.store.observations import Learned
from serve.actors import ActorClient
from serve.routing.policies import Report
from serve.routing.prices import Price
from serve.smart.actor import Feedback, News

ACTOR_NAME = "store"
# For a durable write while the database is busy; most calls take a millisecond.
_TIMEOUT_S = 60.0
_EXCHANGE_TIMEOUT_S = 5.0


class SharedStore:
    """Typed calls to the actor's methods; each raises `ActorUnavailable` if the actor can't answer.

    Args:
        embedder: the deployment that embeds; the actor uses it for histories. None if it embeds
            by itself.
        identities: of the models, by name.
        priors: initial qualities of the models that are configured with one.
    """

    def __init__(
        self,
        embedder: DeploymentHandle[Any] | None,
        identities: Mapping[str, str],
        priors: Mapping[str, float],
    ) -> None:
        self._models = identities, priors, embedder
        self._retired = False
        self._settings: tuple[dict[str, Price], int, str] = ({}, 1, "")
        self._actor = ActorClient(ACTOR_NAME, timeout_s=_TIMEOUT_S, found=self._configure)

    def configure(self, prices: dict[str, Price], n_similar: int, server: str) -> None:
        """Passes new settings to the actor, before the next call of another method."""
        self._settings = prices, n_similar, server
        self._actor.forget()  # it is configured when it is found

    async def exchange(
        self, router: str, version: str, prices: str, reports: Mapping[str, Report]
    ) -> News:
        """See `StoreActor.exchange`."""
        news: News = await self._actor.call(
            "exchange", router, version, prices, reports, timeout_s=_EXCHANGE_TIMEOUT_S
        )
        return news

    async def read(self, name: str, start: int) -> bytes:
        """See `StoreActor.read`."""
        part: bytes = await self._actor.call("read", name, start)
        return part

    async def learn(self, items: Sequence[Learned]) -> int:
        """See `StoreActor.learn`."""
        refused: int = await self._actor.call("learn", items)
        return refused

    async def rate(self, id: str, score: float) -> Feedback | None:
        """See `StoreActor.rate`."""
        feedback: Feedback | None = await self._actor.call("rate", id, score)
        return feedback

    async def feedback(
        self, id: str, score: float, key: str | None, bounded: bool
    ) -> Feedback | None:
        """See `StoreActor.feedback`."""
        feedback: Feedback | None = await self._actor.call("feedback", id, score, key, bounded)
        return feedback

    async def texts(self, ids: Sequence[int]) -> dict[int, str]:
        """The beginnings of past queries, by their numbers."""
        texts: dict[int, str] = await self._actor.call("texts", ids)
        return texts

    async def status(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The state of the store, for /health/ready."""
        status: dict[str, Any] = await self._actor.call("status", timeout_s=timeout_s)
        return status

    def retire(self) -> None:
        """Leaves it to others to tell the actor which models there are."""
        self._retired = True

    def _configure(self, handle: ActorHandle[Any]) -> None:
        if self._retired:
            return
        handle.configure.remote(*self._models, *self._settings)
