"""The actor that decides for all router replicas: store, forecasts and policies in one process.

One message asks for a decision, so that searching, predicting and optimising cost one round trip.
Its store's database outlives it; what it holds in memory is made anew from there when it starts.
"""

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.serve.handle import DeploymentHandle

from deployments.embedder import CachedEmbedder
from deployments.store.evidence import Floats32
from deployments.store.observations import Answer, Observation
from serve.config import StoreConfig
from serve.routing.decider import Decider, Decision, Question, Routes
from serve.routing.prices import Price

logger = logging.getLogger("ray.serve")

_TICK_S = 1.0  # between looks at what there is to do; so much of the policies a crash may lose
_SYNC_TICKS, _RETAIN_TICKS = 10, 600
_GROWN, _FEWEST_NEW = 0.1, 50  # part of the scored rows, and scores, that make a new fit worth it
_FITTED_ROWS = 20_000
_FIT_PAUSE_S = 30.0  # between two fits
_AGAIN_S, _LONGEST_AGAIN_S = 5.0, 60.0  # after a start that failed
_POLICIES = "policies"


@ray.remote(num_cpus=0.25)
class DeciderActor:
    """One for the application.

    Args:
        models: names, in the order of every array's columns.
        priors: qualities to begin with, where a model's config gives one.
        store: the configuration of the store.

    Raises:
        ValueError: the store's database can't be opened, or holds embeddings of another model.
    """

    def __init__(self, models: list[str], priors: dict[str, float], store: StoreConfig) -> None:
        from deployments.encoder import Encoder
        from deployments.store.database import Database, default_url
        from deployments.store.store import EmbeddingStore, Retention

        self._models, self._priors, self._config = models, priors, store
        url = _resolved(store.url) if store.url else default_url()
        dimensions = Encoder(store.embedding_model).dimensions
        database = Database(url, store.embedding_model, dimensions)
        self._store = EmbeddingStore(database, models, dimensions)
        self._retention = Retention(store.most_queries, store.most_days)
        self._settings: tuple[dict[str, Price], int] | None = None
        self._decider: Decider
        self._embedder: DeploymentHandle[Any]
        self._written: dict[str, Any] = {}
        self._state, self._message = "waiting", ""
        self._scores = 0  # since the last fit
        self._preparing: dict[str, asyncio.Task[None]] = {}

    async def configure(
        self, prices: dict[str, Price], n_similar: int, embedder: DeploymentHandle[Any]
    ) -> None:
        """Takes the settings of a router replica; all of them have the same."""
        self._embedder = embedder
        if self._settings == (prices, n_similar):
            return
        decider = Decider(self._store.rows, prices, self._priors, n_similar)
        if self._settings is None:
            decider.restore(self._saved_policies())
            self._life = asyncio.create_task(self._live())
        else:
            decider.take_over(self._decider)
        self._decider, self._settings = decider, (prices, n_similar)

    async def decide(self, question: Question) -> Decision:
        """See `Decider.decide`."""
        if not self._decider.ready_for(question):
            await self._prepared(question)
        return self._decider.decide(question)

    async def route(
        self,
        queries: list[str],
        embeddings: Floats32,
        input_tokens: list[float] | None,
        allowed: np.ndarray,
        requirement: float,
        floor: bool,
        capacities: list[float] | None,
    ) -> tuple[Routes, dict[int, str]]:
        """See `Decider.route`; and the texts of the past queries that it names."""

        def work() -> tuple[Routes, dict[int, str]]:
            routes = self._decider.route(
                queries,
                embeddings,
                input_tokens,
                allowed,
                requirement,
                floor=floor,
                capacities=capacities,
            )
            near = sorted({int(id) for id in routes.near.ravel()})
            return routes, {row.id: row.query for row in self._store.database.read(near)}

        return await asyncio.to_thread(work)

    async def learn(self, observation: Observation, answer: Answer) -> None:
        """Keeps what a model did; durably when this returns."""
        await asyncio.wrap_future(self._store.observe(observation, answer))

    async def feedback(self, id: str, score: float) -> bool:
        """Keeps what an answer was worth, durably when this returns; False for an unknown id."""
        scored = await asyncio.wrap_future(self._store.score(id, score))
        if scored is None:
            return False
        self._decider.correct(scored, score)
        self._scores += 1
        return True

    async def status(self) -> dict[str, Any]:
        """How the store is: for /health/ready."""
        rows = self._store.rows
        return {
            "status": self._state,
            "message": self._message,
            "loaded": self._store.loaded,
            "scored": len(rows),
            "unscored": rows.unscored,
        }

    async def _live(self) -> None:
        pause = _AGAIN_S
        while True:
            try:
                await self._start()
                pause = _AGAIN_S
                await self._go_on()
            except Exception as error:  # the store must come back by itself once its cause is gone
                logger.exception("the store failed; it is started again in %s s", pause)
                self._state, self._message = "failed", str(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_AGAIN_S)

    async def _start(self) -> None:
        self._state, self._message = "loading", ""
        await asyncio.to_thread(self._load)
        for file in self._config.history:
            await self._import(Path(file))
        await self._fit()
        self._state = "ready"
        logger.info("the store is ready: %s", await self.status())

    async def _go_on(self) -> None:
        tick = 0
        fitted_at = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(_TICK_S)
            tick += 1
            await asyncio.to_thread(self._save_policies)
            if tick % _SYNC_TICKS == 0:
                self._scores += await asyncio.to_thread(self._store.sync)
            if tick % _RETAIN_TICKS == 0:
                await asyncio.to_thread(self._store.retain, self._retention)
            now = asyncio.get_running_loop().time()
            enough = max(_FEWEST_NEW, _GROWN * len(self._store.rows))
            if self._scores >= enough and now - fitted_at >= _FIT_PAUSE_S:
                await self._fit()
                fitted_at = now

    def _load(self) -> None:
        total = self._store.database.count()

        def progress(loaded: int) -> None:
            self._message = f"{loaded} of {total} rows"
            if loaded % 100_000 < 512:
                logger.info("the store loads: %s", self._message)

        self._store.loaded = 0
        self._store.load(progress)
        ratio = self._store.database.tokens_per_character()
        if ratio:
            self._decider.forecaster.characters_per_token = 1 / ratio
        self._message = ""

    async def _import(self, file: Path) -> None:
        """Takes a history in, unless this very file was taken in before."""
        from deployments.store.importing import import_history

        loop = asyncio.get_running_loop()

        def embed(texts: Sequence[str]) -> Floats32:
            return asyncio.run_coroutine_threadsafe(self._embedded(list(texts)), loop).result()

        def work() -> None:
            database = self._store.database
            name, digest = f"imported:{file.stem}", hashlib.sha256(file.read_bytes()).hexdigest()
            if database.state(name) == digest:
                return
            logger.info("the store takes in %s", file)
            import_history(database, file, embed, name=file.stem)
            database.set_state(name, digest)
            self._load()

        await asyncio.to_thread(work)

    async def _embedded(self, texts: list[str]) -> Floats32:
        # Few at a time, so that requests don't wait behind a history; each text comes but once.
        return await CachedEmbedder(self._embedder.remote, size=0)(texts)

    async def _fit(self) -> None:
        """Fits a predictor beside the requests, and swaps it in."""
        decider = self._decider
        self._scores = 0

        def work() -> Any:
            ids = self._store.rows.sample(_FITTED_ROWS, np.random.default_rng(0))
            return decider.forecaster.refit(self._store.snapshot(ids))

        fitted = await asyncio.to_thread(work)
        decider.adopt(fitted)
        logger.info(
            "a predictor was fitted on %s of %s scored queries; better than neighbours alone: %s",
            len(fitted.queries),
            len(self._store.rows),
            fitted.accepted,
        )

    async def _prepared(self, question: Question) -> None:
        """Begins a policy, once for all who wait for it."""
        decider, name = self._decider, self._decider.policy_name(question)
        if name not in self._preparing:
            task = asyncio.create_task(asyncio.to_thread(decider.prepare, question))
            task.add_done_callback(lambda done: self._preparing.pop(name, None))
            self._preparing[name] = task
        await asyncio.shield(self._preparing[name])

    def _saved_policies(self) -> dict[str, Any]:
        self._written = self._store.database.state(_POLICIES) or {}
        return self._written

    def _save_policies(self) -> None:
        policies = self._decider.policies()
        if policies != self._written:
            self._store.database.set_state(_POLICIES, policies)
            self._written = policies


def _resolved(url: str) -> str:
    """The URL with each "${NAME}" taken from the environment.

    Raises:
        ValueError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ValueError(
                f"the store's URL needs the environment variable {name}, which is not set where "
                "its actor runs"
            )
        return os.environ[name]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, url)
