"""Promise: the store's actor takes what routers tell it, and tells them what is new."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keepers import DEAR, IDENTITIES, PRICES, history, until

from deployments.store.observations import AnswerRecord, Learned, Observation
from serve.config import StoreConfig
from serve.routing.forecast import changes
from serve.routing.optimise.online import Policy
from serve.routing.policies import Policies, policy_name
from serve.routing.prices import fingerprint
from serve.smart import actor as module
from serve.smart import keeper
from serve.smart.actor import StoreActor, StoreNotOpen

NAME = policy_name(0.7, tuple(PRICES))
PRICED = fingerprint(PRICES)

Start = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keeper, "_TICK_S", 0.01)
    monkeypatch.setattr(module, "_FEEDBACK_RETRY_S", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts actors, as objects of this process, on one database."""
    made = []

    async def start(*histories: Path, configured: bool = True) -> Any:
        files = [str(file) for file in histories]
        config = StoreConfig(url=f"sqlite:///{tmp_path}/store.db", history=files)
        wrapped: Any = StoreActor
        of = wrapped.__ray_metadata__.modified_class  # the class itself, without Ray
        actor = of(IDENTITIES, {}, config.model_dump(mode="json"))
        made.append(actor)
        if configured:
            await actor.configure(IDENTITIES, {}, None, PRICES, 16, "here")
            await until(lambda: actor._keeper.status == "ready")
        return actor

    yield start
    for actor in made:
        if actor._keeper is not None:
            await actor._keeper.close()


def learned(id: str, model: str = "small", *, dimensions: int = 384) -> Learned:
    answer = AnswerRecord(id, model, 0.9, NAME, identity=IDENTITIES[model])
    vector = np.eye(dimensions, dtype=np.float32)[0]
    seen = Observation(f"question {id}", vector, model, "answers", identity=IDENTITIES[model])
    return seen, answer


def reported() -> Policies:
    """A router's policies: one, which has decided nothing yet."""
    policies = Policies()
    policies.begin(NAME, None, Policy(0.7, multiplier=0.01, decisions=1000))
    return policies


async def test_before_it_is_configured_it_has_nothing_and_says_so(started: Start) -> None:
    actor = await started(configured=False)
    news = await actor.exchange("router", "", PRICED, reported().report())
    assert (news.manifest, news.policies) == (None, {})
    for call in (actor.learn([learned("a")]), actor.feedback("a", 1.0), actor.texts([1])):
        with pytest.raises(StoreNotOpen):
            await call
    with pytest.raises(StoreNotOpen):
        await actor.read("manifest.json", 0)
    assert (await actor.status())["status"] == "waiting"


async def test_a_router_hears_of_a_copy_once_and_of_policies_for_its_prices(
    started: Start,
) -> None:
    actor = await started()
    policies = reported()
    news = await actor.exchange("router", "", PRICED, policies.report())
    assert news.manifest is not None
    assert news.policies.keys() == {NAME}
    version = actor._keeper.manifest.version
    assert (await actor.exchange("router", version, PRICED, {})).manifest is None
    dear = await actor.exchange("other", version, fingerprint(DEAR), policies.report())
    assert dear.policies == {}
    for name in news.manifest["files"]:
        assert await actor.read(name, 0) == (actor._keeper.folder.path / name).read_bytes()


async def test_what_is_learned_is_in_the_next_copy_and_known_to_feedback(started: Start) -> None:
    actor = await started()
    await actor.exchange("router", "", PRICED, reported().report())
    alone = AnswerRecord("alone", "large", 0.9, NAME, identity=IDENTITIES["large"])
    assert await actor.learn([learned("whole"), alone]) == 0
    assert await actor.feedback("whole", 1.0)
    assert await actor.feedback("alone", 0.0)
    assert not await actor.feedback("unknown", 1.0)
    # Both scores correct the policy, and the one with a query is evidence.
    assert actor._keeper.policies.to_dict()[NAME]["scores"] == pytest.approx(2, abs=0.01)
    await until(lambda: len(actor._keeper.store.publisher.copy) == 1)
    assert (await actor.texts([1])) == {1: "question whole"}
    assert (await actor.status())["scored"] == 1


async def test_a_model_whose_answers_become_worse_is_told_of(
    started: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(changes, "_FIRST", 2)
    monkeypatch.setattr(changes, "_ALARM", 1.0)
    actor = await started()
    assert (await actor.status())["changes"] == {}
    told = []
    for number, score in enumerate((1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)):
        await actor.learn([learned(str(number))])
        told.append((await actor.feedback(str(number), score)).change)
    [change] = [change for change in told if change is not None]
    assert (await actor.status())["changes"] == {"small": asdict(change)}
    assert "model 'small' answers worse than it did" in caplog.text


async def test_an_answer_is_known_to_the_key_that_it_was_for_alone(started: Start) -> None:
    actor = await started()
    await actor.learn([AnswerRecord("mine", "small", key="team")])
    assert await actor.feedback("mine", 0.0, "other") is None
    assert await actor.feedback("mine", 0.0) is None
    assert (await actor.feedback("mine", 1.0, "team")).scored.replaced is None


async def test_of_a_key_that_scores_far_more_than_many_others_a_part_is_learned(
    started: Start,
) -> None:
    actor = await started()
    for number in range(25):
        key = f"key {number}" if number < 20 else "loud"
        await actor.learn([AnswerRecord(str(number), "small", 0.9, NAME, key=key)])
    told = [
        await actor.feedback(str(number), 1.0, f"key {number}" if number < 20 else "loud")
        for number in range(25)
    ]
    assert [feedback.scored is not None for feedback in told] == [True] * 22 + [False] * 3
    assert actor._keeper.store.database.owners.scores()["loud"] == 2


async def with_scores_of_20_keys(started: Start) -> Any:
    """An actor that bounds each key's scores, since so many keys have given one."""
    actor = await started()
    for number in range(20):
        await actor.learn([AnswerRecord(str(number), "small", key=f"key {number}")])
        await actor.feedback(str(number), 1.0, f"key {number}")
    return actor


async def test_scores_that_a_key_sends_at_once_are_bounded_as_if_one_by_one(started: Start) -> None:
    actor = await with_scores_of_20_keys(started)
    await actor.learn([AnswerRecord(f"loud {n}", "small", key="loud") for n in range(40)])
    told = await asyncio.gather(*(actor.feedback(f"loud {n}", 0.0, "loud") for n in range(40)))
    assert sum(feedback.scored is not None for feedback in told) == 2


async def test_a_score_that_replaces_another_counts_once(started: Start) -> None:
    actor = await with_scores_of_20_keys(started)
    await actor.learn([AnswerRecord(f"loud {n}", "small", key="loud") for n in range(2)])
    for score in (0.0, 0.5, 1.0):
        assert (await actor.feedback("loud 0", score, "loud")).scored is not None
    assert (await actor.feedback("loud 1", 0.0, "loud")).scored is not None


async def test_the_scores_of_keys_are_counted_on_after_a_restart(started: Start) -> None:
    actor = await with_scores_of_20_keys(started)
    await actor.learn([AnswerRecord(f"loud {n}", "small", key="loud") for n in range(3)])
    await actor.feedback("loud 0", 1.0, "loud")
    await actor.feedback("loud 1", 1.0, "loud")
    again = await started()
    assert (await again.feedback("loud 2", 1.0, "loud")).scored is None
    assert (await again.feedback("loud 2", 1.0, "loud", bounded=False)).scored is not None


async def test_a_score_that_an_answer_gets_by_itself_replaces_none(started: Start) -> None:
    actor = await started()
    await actor.learn([learned("rated"), learned("scored")])
    assert await actor.feedback("scored", 1.0)
    assert await actor.rate("scored", 0.0) is None
    assert await actor.rate("unknown", 0.0) is None
    told = await actor.rate("rated", 0.4)
    assert told is not None
    again = await actor.feedback("rated", 1.0)
    assert again is not None
    assert again.scored is not None
    assert again.scored.replaced == 0.4


async def test_feedback_waits_for_an_answer_that_is_still_on_its_way(
    started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEEDBACK_RETRY_S", 0.5)
    actor = await started()
    feedback = asyncio.ensure_future(actor.feedback("late", 1.0))
    await asyncio.sleep(0.1)
    await actor.learn([learned("late")])
    assert await feedback


async def test_one_that_can_not_be_stored_does_not_keep_the_others_out(started: Start) -> None:
    actor = await started()
    assert await actor.learn([learned("a"), learned("wrong", dimensions=3), learned("b")]) == 1
    assert await actor.feedback("a", 1.0)
    assert await actor.feedback("b", 1.0)


async def test_with_other_models_the_store_starts_anew_and_keeps_what_is_in_it(
    started: Start, tmp_path: Path
) -> None:
    actor = await started(history(tmp_path, rows=20))
    before = actor._keeper
    models = {**IDENTITIES, "new": "openai/new"}
    prices = {**PRICES, "new": PRICES["large"]}
    await actor.configure(models, {}, None, prices, 16, "here")
    assert actor._keeper is not before
    await until(lambda: actor._keeper.status == "ready")
    assert dict(actor._keeper.manifest.models) == models
    assert actor._keeper.store.publisher.copy.means().count.tolist() == [20, 20, 0]
    assert actor._keeper.folder.manifest() == actor._keeper.manifest
    same = actor._keeper
    await actor.configure(models, {}, None, prices, 16, "here")
    assert actor._keeper is same
