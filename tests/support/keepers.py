"""Keepers of small stores in a test's folder, and routers' decisions that follow them."""

import asyncio
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder
from deployments.store.copies.reader import Reader
from deployments.store.evidence import Floats32
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore
from serve.actors import ActorUnavailable
from serve.routing.decider import Decider
from serve.routing.policies import Report, policy_name
from serve.routing.prices import Price
from serve.routing.strategy import Question
from serve.smart.actor import News
from serve.smart.keeper import Keeper

D = 16
PRICES = {"small": Price(1e-7, 4e-7), "large": Price(3e-6, 1.2e-5)}
DEAR = {**PRICES, "small": Price(1e-3, 4e-3)}
"""The small model costs more than the large one."""
IDENTITIES = {model: f"openai/{model}" for model in PRICES}
ENCODER = "encoder"
NAME = policy_name(0.7, tuple(PRICES))


def vector(text: str) -> Floats32:
    """Texts of one beginning are near."""
    numbers = np.zeros(D, np.float32)
    numbers[sum(text.split()[0].encode()) % D] = 1
    numbers += np.random.default_rng(zlib.crc32(text.encode())).normal(0, 0.02, D)
    unit: Floats32 = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return unit


class Embedder:
    """Embeds by `vector`; can be held up or broken, and counts texts."""

    def __init__(self) -> None:
        self.texts = 0
        self.up = asyncio.Event()
        self.up.set()
        self.error: Exception | None = None

    async def __call__(self, texts: Sequence[str]) -> Floats32:
        await self.up.wait()
        if self.error is not None:
            raise self.error
        self.texts += len(texts)
        return np.array([vector(text) for text in texts], np.float32).reshape(len(texts), D)


def history(folder: Path, rows: int = 120) -> Path:
    """The small model answers what is easy alone."""
    file = folder / "past.jsonl"
    lines = []
    for number in range(rows):
        kind = "easy" if number % 2 else "hard"
        outputs = [
            {"model_name": "small", "correctness": number % 2, "output_token_length": 9},
            {"model_name": "large", "correctness": 1, "output_token_length": 9},
        ]
        row = {"query": f"{kind} {number}", "input_token_length": 3, "outputs": outputs}
        lines.append(json.dumps(row))
    file.write_text("\n".join(lines))
    return file


def url_of(folder: Path) -> str:
    """The database of the stores in this folder."""
    return f"sqlite:///{folder}/store.db"


def opener(
    folder: Path, copies: Folder, identities: Mapping[str, str] = IDENTITIES
) -> Callable[[], EmbeddingStore]:
    """Opens the store in this folder."""

    def open_store() -> EmbeddingStore:
        database = Database(url_of(folder), ENCODER, D, identities=identities)
        return EmbeddingStore(database, copies)

    return open_store


def started(
    folder: Path,
    *histories: Path,
    open_store: Any = None,
    server: str = "here",
    copies: Folder | None = None,
    identities: Mapping[str, str] = IDENTITIES,
) -> tuple[Keeper, Embedder]:
    """A keeper of the store in this folder, and its embedder."""
    copies = copies or Folder(folder / "copies" / server)
    embedder = Embedder()
    open_store = open_store or opener(folder, copies, identities)
    keeper = Keeper(list(identities), {}, copies, open_store, histories)
    keeper.configure({**DEAR, **PRICES}, 16, server, embedder)
    return keeper, embedder


async def until(true: Callable[[], object]) -> None:
    """Waits until something is true, at most half a minute."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def ready(keeper: Keeper) -> None:
    """Waits until a keeper's store is ready."""
    await until(lambda: keeper.status == "ready")


def question(text: str, *, floor: bool = False, **more: Any) -> Question:
    """Which of the two models should answer this text?"""
    both = tuple(PRICES)
    fields = {"candidates": both, "available": both, "requirement": 0.7, **more}
    return Question(query=text, characters=20, floor=floor, **fields)


def published(keeper: Keeper) -> Copy:
    """The latest copy, as a router opens it."""
    manifest = keeper.manifest
    assert manifest is not None
    # CPython 3.11 may fail where two threads parse at once (gh-106905), as numpy does with the head
    # of each file. A router tries again in a second.
    with suppress(SystemError):
        return Reader(keeper.folder).copy(manifest, manifest.models)
    return Reader(keeper.folder).copy(manifest, manifest.models)


def choice(keeper: Keeper, text: str, prices: dict[str, Price] = PRICES) -> str:
    """The model that a router chooses by the latest copy."""
    decider = Decider(published(keeper), prices)
    return decider.decide(question(text, floor=True), vector(text)).models[0]


def decide(keeper: Keeper, text: str, times: int = 20, router: str = "router") -> None:
    """A router decides some requests, and reports it."""
    decider = Decider(published(keeper), PRICES)
    asked = question(text)
    decider.begin(asked, decider.new_policy(NAME))
    keeper.policies.exchange(router, decider.policies.report())
    for _ in range(times):
        decider.decide(asked, vector(text))
    keeper.policies.exchange(router, decider.policies.report())


def kept(keeper: Keeper) -> dict[str, Any]:
    """The policies of all routers, as they are stored."""
    return keeper.policies.to_dict()


class Store:
    """In place of `SharedStore`: asks a keeper as the actor does, without Ray; can be away."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self.keeper, self.away = keeper, keeper is None
        self.exchanges = 0
        self.reports: list[Mapping[str, Report]] = []
        self.fetched: set[str] = set()

    async def exchange(
        self, router: str, version: str, prices: str, reports: Mapping[str, Report]
    ) -> News:
        self.exchanges += 1
        keeper = self._there()
        self.reports.append(reports)
        policies = keeper.policies.exchange(router, reports) if prices == keeper.priced else {}
        manifest = keeper.manifest
        known = manifest is None or manifest.version == version
        return News(None if known or manifest is None else manifest.to_dict(), policies)

    async def read(self, name: str, start: int) -> bytes:
        self.fetched.add(name)
        return await asyncio.to_thread(self._there().folder.read, name, start)

    async def texts(self, ids: Sequence[int]) -> dict[int, str]:
        store = self._there().store
        assert store is not None
        rows = await asyncio.to_thread(store.database.read, ids)
        return {row.id: row.query for row in rows}

    def _there(self) -> Keeper:
        if self.away or self.keeper is None:
            raise ActorUnavailable("the actor is being created")
        return self.keeper
