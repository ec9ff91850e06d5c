"""The models of a router replica: how each is called, and what is known of it.

When the models change there is a new fleet, and each request stays with the one that it began with.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.config import ModelConfig
from serve.availability.circuits import Circuits
from serve.availability.context_windows import ContextWindows
from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability
from serve.config import RouterConfig, StoreConfig
from serve.core import Core
from serve.embeddings import Embedding, OwnEmbedder
from serve.handles import Handle
from serve.routing.prices import Price


@dataclass(frozen=True, slots=True)
class Fleet:
    """The parts of a router replica that belong to its models."""

    models: Mapping[str, ModelConfig]
    core: Core
    embedding: Embedding
    availability: Availability
    circuits: Circuits
    windows: ContextWindows
    readiness: Readiness

    @classmethod
    def assemble(
        cls,
        models: Mapping[str, ModelConfig],
        deployment_names: Mapping[str, str],
        handles: Mapping[str, Handle],
        in_process: Collection[str],
        store: StoreConfig | None,
        embedder: DeploymentHandle[Any] | None,
        before: "Fleet | None" = None,
    ) -> "Fleet":
        """Puts a fleet together.

        Args:
            models: by their names.
            deployment_names: the deployment of each model.
            handles: by the deployments' names.
            in_process: the names that stand for models in this process instead of deployments.
            store: where past queries are kept; None without one.
            embedder: the deployment that embeds; None where the routers do.
            before: the fleet that this one replaces. What is known of models that both have, as
                they are, is kept.
        """
        by_model = {name: handles[deployment_names[name]] for name in models}
        availability = Availability(models, deployment_names, in_process)
        circuits = Circuits(models)
        windows = ContextWindows(models, by_model, availability)
        readiness = Readiness(models, by_model, availability, circuits)
        chats = {name: model for name, model in models.items() if not model.embeds}
        embedders = {name: model for name, model in models.items() if model.embeds}
        smart = own = None
        if store is not None:
            # Only where there is a store, since others need none of what this imports.
            from serve.smart.service import Smart

            smart = Smart(chats, store, embedder)
            own = OwnEmbedder(store.embedder_name, smart.embed)
        embedding = Embedding(embedders, by_model, availability, circuits, chats, own)
        core = Core(
            chats,
            by_model,
            availability,
            circuits,
            windows.known,
            smart,
            embedders=[*embedders, *([own.name] if own else [])],
            in_flight=None if before is None else before.core.in_flight,
        )
        if before is not None:
            same = [name for name in models if models[name] == before.models.get(name)]
            availability.take_over(before.availability, same)
            circuits.take_over(before.circuits, same)
            windows.take_over(before.windows, same)
            readiness.take_over(before.readiness, same)
        return cls(models, core, embedding, availability, circuits, windows, readiness)

    async def configure(self, settings: RouterConfig, prices: Mapping[str, Price]) -> None:
        """Applies new settings, and the prices of all models that have one; see
        `Core.configure`."""
        ours = {name: price for name, price in prices.items() if name in self.core.models}
        await self.core.configure(settings, ours)
        self.embedding.prices = prices

    async def watch(self) -> None:
        """Looks at the models once, then in the background."""
        await self.availability.watch()
        self.readiness.watch()
        self.windows.watch()

    def stop(self) -> None:
        """Stops looking. Requests that began with this fleet can still end."""
        self.core.retire()
        self.circuits.retire()
        self.availability.stop()
        self.readiness.stop()
        self.windows.stop()
