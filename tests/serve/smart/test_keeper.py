"""Promise: the decider's store starts by itself, and whatever fails in it is retried."""

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking
from serve.smart import keeper as module
from serve.smart.keeper import Keeper

D = 16
PRICES = {"small": Price(1e-7, 4e-7), "large": Price(3e-6, 1.2e-5)}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TICK_S", "_RETRY_S", "_FIT_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.01)


def vector(text: str) -> Floats32:
    """Texts of one beginning are near."""
    numbers = np.zeros(D, np.float32)
    numbers[sum(text.split()[0].encode()) % D] = 1
    numbers += np.random.default_rng(zlib.crc32(text.encode())).normal(0, 0.02, D)
    unit: Floats32 = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return unit


class Embedder:
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


def opener(folder: Path) -> Callable[[], EmbeddingStore]:
    def open_store() -> EmbeddingStore:
        database = Database(f"sqlite:///{folder}/store.db", "encoder", D)
        return EmbeddingStore(database, list(PRICES), D)

    return open_store


def started(
    folder: Path, *histories: Path, open_store: Any = None, server: str = "here"
) -> tuple[Keeper, Embedder]:
    embedder = Embedder()
    keeper = Keeper(list(PRICES), {}, open_store or opener(folder), histories)
    keeper.configure(PRICES, 16, server, embedder)
    return keeper, embedder


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def ready(keeper: Keeper) -> None:
    await until(lambda: keeper.status == "ready")


def decision(keeper: Keeper, text: str, floor: bool = False) -> Ranking:
    return keeper.decider.decide(question(text, floor), vector(text))


def choice(keeper: Keeper, text: str, floor: bool = True) -> str:
    return decision(keeper, text, floor).models[0]


def question(text: str, floor: bool = False) -> Question:
    both = tuple(PRICES)
    return Question(
        candidates=both, available=both, query=text, characters=20, requirement=0.7, floor=floor
    )


async def test_a_history_is_imported_once_and_decides(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path, history(tmp_path))
    assert keeper.decider.cold
    await ready(keeper)
    assert embedder.texts == 120
    assert (choice(keeper, "easy one"), choice(keeper, "hard one")) == ("small", "large")
    again, embedder = started(tmp_path, history(tmp_path))
    await ready(again)
    assert embedder.texts == 0
    assert choice(again, "easy one") == "small"


async def test_a_bad_or_missing_history_does_not_affect_the_rest(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"query": "", "outputs": []}')
    keeper, _ = started(tmp_path, bad, tmp_path / "missing.json", history(tmp_path))
    await ready(keeper)
    assert choice(keeper, "easy one") == "small"


async def test_the_store_is_ready_once_queries_can_be_embedded(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path, history(tmp_path))
    await ready(keeper)
    keeper = Keeper(list(PRICES), {}, opener(tmp_path), [])
    embedder.up.clear()
    keeper.configure(PRICES, 16, "here", embedder)
    await until(lambda: keeper.message == "waiting for the embedding model")
    assert keeper.status == "loading"
    assert choice(keeper, "easy one") == "small"  # what it knows is used in the meantime
    keeper.configure({**PRICES, "large": Price(1e-6, 4e-6)}, 16, "here", embedder)
    assert not keeper.decider.cold  # new settings keep what is loaded
    embedder.up.set()
    await ready(keeper)
    assert keeper.message == ""


async def test_a_failing_embedder_does_not_keep_the_store_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    keeper, embedder = started(tmp_path)
    embedder.error = OSError("no room for it")
    await ready(keeper)
    assert "the embedding model does not respond" in caplog.text
    assert "no room for it" in caplog.text


async def test_opening_the_store_is_retried(tmp_path: Path) -> None:
    tries = 0

    def open_store() -> EmbeddingStore:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("the database is unavailable")
        return opener(tmp_path)()

    keeper, _ = started(tmp_path, history(tmp_path), open_store=open_store)
    assert choice(keeper, "easy one") in PRICES
    await until(lambda: keeper.status == "failed")
    await ready(keeper)
    assert tries == 3


async def test_policies_outlive_the_process(tmp_path: Path) -> None:
    keeper, _ = started(tmp_path, history(tmp_path))
    await ready(keeper)
    for number in range(40):
        choice(keeper, f"hard {number}", floor=False)
    await until(lambda: keeper._saved == keeper.decider.policies())
    again, _ = started(tmp_path, history(tmp_path))
    choice(again, "hard one", floor=False)  # while it loads: must not count
    await ready(again)
    assert again.decider.policies() == keeper.decider.policies()
    # They move to the new fit before they decide again.
    (name,) = again.decider.policies()
    assert not again.decider.ready_for(question("hard one"))
    assert name == again.decider.policy_name(question("hard one"))


async def decided(folder: Path, server: str, text: str) -> dict[str, Any]:
    """The policies of a server that has decided some requests, and saved them."""
    keeper, _ = started(folder, server=server)
    await ready(keeper)
    for _ in range(20):
        choice(keeper, text, floor=False)
    await until(lambda: keeper._saved == keeper.decider.policies())
    return keeper._saved


async def test_servers_with_one_store_do_not_overwrite_each_others_policies(
    tmp_path: Path,
) -> None:
    first = await decided(tmp_path, "first", "easy one")
    # A new server begins where the other is.
    second, _ = started(tmp_path, server="second")
    await ready(second)
    assert second.decider.policies() == first
    both = await decided(tmp_path, "second", "hard one")
    assert both != first
    for server, policies in (("first", first), ("second", both)):
        again, _ = started(tmp_path, server=server)
        await ready(again)
        assert again.decider.policies() == policies


async def test_policies_from_before_servers_had_names_are_adopted(tmp_path: Path) -> None:
    saved = await decided(tmp_path, "first", "easy one")
    database = Database(f"sqlite:///{tmp_path}/store.db")
    ((name, state),) = database.state.with_prefix("policies:").items()
    database.state.delete([name])
    database.state.set(name.removesuffix(":first"), state["policies"])
    database.close()
    again, _ = started(tmp_path, server="second")
    await ready(again)
    assert again.decider.policies() == saved


async def test_the_number_of_servers_with_stored_policies_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_SERVERS", 2)
    for server in ("first", "second", "third"):
        await decided(tmp_path, server, server)
    keeper, _ = started(tmp_path, server="fourth")
    await ready(keeper)
    assert keeper.store is not None
    servers = [name.split(":")[-1] for name in keeper.store.database.state.with_prefix("policies:")]
    assert sorted(servers) == ["second", "third"]


async def test_a_history_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = history(tmp_path, rows=20)
    keeper, embedder = started(tmp_path, file)
    await ready(keeper)
    assert keeper.store is not None
    read = Path.read_bytes
    files: list[Path] = []

    def counted(path: Path) -> bytes:
        files.append(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    await keeper._import_all(keeper.store)
    assert files == []
    history(tmp_path, rows=30)
    await keeper._import_all(keeper.store)
    assert set(files) == {file}
    assert (embedder.texts, len(keeper.store.rows)) == (30, 30)


async def test_maintenance_that_fails_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, _ = started(tmp_path, history(tmp_path))
    await ready(keeper)
    assert keeper.store is not None
    decider, save = keeper.decider, keeper.store.database.state.set
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(name: str, value: object) -> None:
        loop.call_soon_threadsafe(failed.set)
        raise ConnectionError("the database is unavailable")

    monkeypatch.setattr(keeper.store.database.state, "set", fail)
    choice(keeper, "easy one", floor=False)
    await asyncio.wait_for(failed.wait(), 30)
    monkeypatch.setattr(keeper.store.database.state, "set", save)
    await until(lambda: keeper._saved == keeper.decider.policies() != {})
    assert keeper.decider is decider
    assert keeper.status == "ready"
    await until(lambda: keeper.message == "")


async def test_new_prices_apply_at_once_and_the_tokens_per_character_stay(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path, history(tmp_path))
    await ready(keeper)
    rate = keeper.decider.tokens_per_character
    assert rate == pytest.approx(3 / 7, rel=0.1)  # as the history has it
    assert choice(keeper, "easy one") == "small"
    keeper.configure({**PRICES, "small": Price(1e-3, 4e-3)}, 16, "here", embedder)
    assert choice(keeper, "easy one") == "large"
    assert keeper.decider.tokens_per_character == rate


async def test_prices_that_change_while_the_store_loads_are_not_lost(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path, history(tmp_path))
    keeper.configure({**PRICES, "small": Price(1e-3, 4e-3)}, 16, "here", embedder)
    await asyncio.sleep(0)
    await ready(keeper)
    assert choice(keeper, "easy one") == "large"


async def test_enough_scores_cause_a_refit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEWEST_NEW", 5)
    keeper, _ = started(tmp_path, history(tmp_path, rows=20))
    await ready(keeper)
    assert keeper.store is not None
    first = keeper.decider.fitted
    for number in range(5):
        seen = Observation(f"new {number}", vector(f"new {number}"), "small", "answers")
        keeper.store.observe(seen, AnswerRecord(str(number), "small", None, None))
        await asyncio.wrap_future(keeper.store.score(str(number), 1.0))
        keeper.scored()
    await until(lambda: keeper.decider.fitted is not first)
    assert len(keeper.decider.fitted.queries) > len(first.queries)
