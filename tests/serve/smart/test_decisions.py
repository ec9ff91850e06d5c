"""Promise: a router decides by the latest copy that it has, whatever happens to the store."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keepers import (
    DEAR,
    IDENTITIES,
    PRICES,
    Store,
    question,
    started,
    until,
    vector,
)
from router_fixtures import COPIES, Router, chosen, filled

from deployments.contract import ChatRequest
from deployments.messages import UserMessage
from deployments.store.copies.folder import Folder
from deployments.store.observations import Observation
from serve.routing.forecast import fits
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion
from serve.smart import decisions as module
from serve.smart.decisions import Busy, Decisions

THREE = {"cheap": Price(1e-7, 4e-7), "middle": Price(1e-6, 4e-6), "dear": Price(1e-5, 4e-5)}


def batch(*texts: str) -> tuple[BatchQuestion, Any]:
    asked = BatchQuestion(texts, [tuple(PRICES)] * len(texts), 0.7, floor=True)
    return asked, np.stack([vector(text) for text in texts])


@pytest.mark.parametrize("floor", [True, False])
@pytest.mark.parametrize(
    ("requirement", "best"), [(0.5, "cheap"), (0.6, "middle"), (0.7, "dear"), (1.0, "dear")]
)
async def test_before_there_is_a_copy_the_cheapest_whose_price_suggests_enough_is_chosen(
    requirement: float, best: str, floor: bool, router: Router
) -> None:
    decisions = await router(Store(), prices=THREE, identities=dict.fromkeys(THREE, ""))
    assert not decisions.has_copy
    names = tuple(THREE)
    asked: dict[str, Any] = {"requirement": requirement, "floor": floor, "candidates": names}
    assert await chosen(decisions, available=names, **asked) == best
    ranking = await decisions.decide(question("one", **asked, available=("dear", "middle")), None)
    assert sorted(ranking.models) == ["dear", "middle"]
    assert ranking.reason.startswith("cold start, guessed from prices")


async def test_before_there_is_a_copy_a_configured_prior_counts_more_than_the_price(
    router: Router,
) -> None:
    decisions = await router(Store(), priors={"small": 0.9})
    assert await chosen(decisions, requirement=0.85) == "small"


async def test_a_router_starts_with_the_copy_of_its_node_without_the_store(
    tmp_path: Path, router: Router
) -> None:
    await (await filled(tmp_path)).close()
    store = Store()
    decisions = await router(store)
    assert decisions.has_copy
    assert (await chosen(decisions, "easy one"), await chosen(decisions, "hard one")) == (
        "small",
        "large",
    )
    assert len(decisions._decider.fitted.characters) == 120


async def test_a_router_counts_scores_less_the_older_they_are(
    tmp_path: Path, router: Router
) -> None:
    await (await filled(tmp_path)).close()
    whole, aged = await router(Store()), await router(Store(), half_life_days=1e-4)
    counts = [each._decider.evidence.means().count.sum() for each in (whole, aged)]
    assert 0 < counts[1] < counts[0] == 240


async def test_on_another_node_a_router_fetches_what_it_lacks_and_only_that(
    tmp_path: Path, router: Router
) -> None:
    keeper = await filled(tmp_path, here=False)
    store = Store(keeper)
    decisions = await router(store)
    await until(lambda: decisions.has_copy)
    assert (await chosen(decisions, "easy one"), await chosen(decisions, "hard one")) == (
        "small",
        "large",
    )
    before, store.fetched = store.fetched, set()
    assert before
    # Deleting one query changes a small segment alone.
    assert keeper.store is not None
    keeper.store._forget([1])
    await until(lambda: store.fetched)
    await until(lambda: decisions._manifest == keeper.manifest)
    assert not before & store.fetched


async def test_a_new_copy_is_taken(tmp_path: Path, router: Router) -> None:
    keeper, _ = started(tmp_path, copies=Folder.of(*COPIES, "here"))
    decisions = await router(Store(keeper))
    await until(lambda: decisions.has_copy)
    assert await chosen(decisions, "hard one", requirement=0.5) == "small"
    assert keeper.store is not None
    for number in range(30):
        for model, quality in (("small", 0.0), ("large", 1.0)):
            text = f"hard {number}"
            seen = Observation(text, vector(text), model, "test", quality)
            await asyncio.wrap_future(keeper.store.observe(seen))
            keeper.store.database.adopt()
    asked = question("hard one", requirement=0.5, floor=True)
    await until(lambda: decisions._decider.decide(asked, vector("hard one")).models[0] == "large")


async def test_lengths_by_shape_are_taken_with_the_copy_unless_they_are_of_another_model(
    tmp_path: Path, router: Router
) -> None:
    keeper = await filled(tmp_path)
    assert keeper.store is not None
    for number in range(100):
        known: dict[str, Any] = {"output_tokens": 90, "shape": "json"}
        seen = Observation(
            f"json {number}", vector("json"), "small", "answers", identity="openai/small", **known
        )
        await asyncio.wrap_future(keeper.store.observe(seen))
    asked = question(
        "easy one",
        floor=True,
        chat=ChatRequest(
            model="auto",
            messages=[UserMessage(role="user", content="easy one")],
            response_format={"type": "json_object"},
        ),
    )

    def tokens(decisions: Decisions) -> float:
        return decisions._decider.decide(asked, vector("easy one")).output_tokens["small"]

    decisions = await router(Store(keeper))
    await until(lambda: tokens(decisions) == pytest.approx(90, rel=0.1))
    renamed = {**IDENTITIES, "small": "openai/another"}
    other = await router(Store(keeper), identities=renamed)
    await until(lambda: other.has_copy)
    assert tokens(other) == pytest.approx(9, rel=0.1)


async def test_while_the_store_is_away_decisions_go_on(tmp_path: Path, router: Router) -> None:
    store = Store(await filled(tmp_path))
    decisions = await router(store)
    await until(lambda: store.reports)
    store.away, asked = True, store.exchanges
    await until(lambda: store.exchanges > asked + 2)  # it is asked again and again
    assert (await chosen(decisions, "easy one"), await chosen(decisions, "hard one")) == (
        "small",
        "large",
    )
    store.away, reported = False, len(store.reports)
    await until(lambda: len(store.reports) > reported)


async def test_a_copy_that_can_not_be_opened_does_not_stop_the_router(
    tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = await filled(tmp_path)
    tried = threading.Event()

    def broken(*args: object) -> None:
        tried.set()
        raise ValueError("not a predictor")

    monkeypatch.setattr(module, "read_fit", broken)
    decisions = await router(Store(keeper))
    assert tried.is_set()
    assert not decisions.has_copy
    assert await chosen(decisions) in PRICES
    monkeypatch.setattr(module, "read_fit", fits.read_fit)
    await until(lambda: decisions.has_copy)
    assert await chosen(decisions, "easy one") == "small"


async def test_a_copy_with_embeddings_of_another_model_is_refused(
    tmp_path: Path, router: Router
) -> None:
    store = Store(await filled(tmp_path))
    decisions = await router(store, encoder="another encoder")
    await until(lambda: store.exchanges > 3)
    assert not decisions.has_copy
    assert decisions._decider.cold


async def test_a_copy_for_other_models_says_what_the_same_models_did(
    tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = await router(Store(await filled(tmp_path)))
    asked = question("hard one", floor=True, requirement=0.5)
    before = (await same.decide(asked, vector("hard one"))).quality
    assert before["small"] < 0.2 < 0.8 < before["large"]

    def unused(*args: object) -> None:
        raise AssertionError("a predictor for other models")

    monkeypatch.setattr(module, "read_fit", unused)
    # In another order, with a model that is new, and one that stands for another than before.
    models = {"new": "openai/new", "large": "openai/large", "small": "openai/another"}
    prices = {**PRICES, "new": Price(1e-6, 4e-6)}
    other = await router(Store(), prices=prices, identities=models)
    assert other.has_copy
    quality = (await other.decide(asked, vector("hard one"))).quality
    assert quality["large"] == pytest.approx(before["large"], abs=0.1)
    assert quality["small"] > 0.3  # a guess, from its price


async def test_new_prices_decide_at_once_and_by_the_same_copy(
    tmp_path: Path, router: Router
) -> None:
    await (await filled(tmp_path)).close()
    decisions = await router(Store())
    assert await chosen(decisions, "easy one") == "small"
    await decisions.configure(DEAR, 16, "here", 0.0)
    assert decisions.has_copy
    assert await chosen(decisions, "easy one") == "large"


async def test_while_new_prices_are_applied_decisions_go_on_by_the_copy(
    tmp_path: Path, router: Router
) -> None:
    await (await filled(tmp_path)).close()
    decisions = await router(Store())
    applying = asyncio.create_task(decisions.configure(DEAR, 16, "here", 0.0))
    while not applying.done():
        assert decisions.has_copy
        ranking = await decisions.decide(question("easy one"), vector("easy one"))
        assert not ranking.reason.startswith("cold")
        await asyncio.sleep(0)
    await applying


async def test_batches_run_beside_the_event_loop_and_only_so_many_wait(
    tmp_path: Path, router: Router
) -> None:
    decisions = await router(Store(await filled(tmp_path)))
    go = threading.Event()
    decisions._batches.submit(go.wait, 30)  # a batch that takes long
    waiting = [
        asyncio.ensure_future(decisions.route(*batch("easy", "hard"), show_queries=True))
        for _ in range(16)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="16 batches"):
        await decisions.route(*batch("easy"), show_queries=True)
    assert await chosen(decisions, "easy one") == "small"  # single requests don't wait for batches
    assert not any(routes.done() for routes in waiting)
    go.set()
    for routes in await asyncio.gather(*waiting):
        assert [routes.models[at] for at in routes.assignment.choice] == ["small", "large"]
    await decisions.route(*batch("easy"), show_queries=True)  # there is room again


async def test_a_batch_is_decided_without_naming_past_queries(
    tmp_path: Path, router: Router
) -> None:
    decisions = await router(Store(await filled(tmp_path)))
    routes = await decisions.route(*batch("easy", "hard"), show_queries=False)
    assert [routes.models[at] for at in routes.assignment.choice] == ["small", "large"]
    assert routes.past is None
    assert routes.near.shape == (2, 0)


async def test_past_queries_are_shown_as_long_as_the_store_can_be_asked(
    tmp_path: Path, router: Router
) -> None:
    store = Store(await filled(tmp_path))
    decisions = await router(store)
    routes = await decisions.route(*batch("easy one"), show_queries=True)
    assert routes.past is not None
    assert len(routes.past) == 5
    assert all(text.startswith("easy") for text in routes.past.values())
    store.away = True
    assert (await decisions.route(*batch("easy one"), show_queries=True)).past == {}


async def test_a_router_that_stops_no_longer_follows_the_store(
    tmp_path: Path, router: Router
) -> None:
    store = Store(await filled(tmp_path))
    decisions = await router(store)
    await until(lambda: store.exchanges > 1)
    decisions.stop()
    await asyncio.sleep(0)
    asked = store.exchanges
    await asyncio.sleep(0.1)
    assert store.exchanges == asked
    assert await chosen(decisions, "easy one") == "small"
