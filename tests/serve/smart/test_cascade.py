"""Promise: a request gets one answer, whoever was asked first; what probes cost is its cost, and
what they said is learned."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import cache
from typing import Any

import httpx
import pytest
from scripted_models import Models, api_client, says
from telling_answers import PRICES, recorded

from deployments.contract import ChatRequest, Chunk, Usage
from deployments.errors import InvalidRequest, ProviderError
from deployments.store.agreement import digest_of
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.config import RouterConfig
from serve.routing.cascade.deciding import CascadeDecider, Probing
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking
from serve.smart.cascade import CascadeStrategy, Probed
from serve.strategies import STRATEGIES

PATH = "/v1/chat/completions"
END = Chunk(finish_reason="stop", usage=Usage(100, 10))


@cache
def fitted() -> CascadeDecider:
    decider = CascadeDecider(SnapshotEvidence(recorded()), PRICES)
    decider.use(decider.forecaster(fitted=decider.refit(recorded())))
    return decider


class Forecasts:
    """Plans as a router's copy of the store would; notes what is learned of probes."""

    def __init__(self) -> None:
        self.learned: list[tuple[str, int | None]] = []

    async def plan(self, question: Question) -> Ranking | Probing:
        decider = fitted()
        question = decider.with_probes(replace(question, requirement=0.96))
        if name := decider.claim(question):
            decider.begin(question, decider.new_policy(name))
            decider.release(name)
        return decider.plan(question, recorded(1).embeddings[0])

    def learn_probe(self, question: Question, model: str, probed: Probed) -> None:
        self.learned.append((model, probed.said))


async def asked(models: Models, forecasts: Forecasts | None = None, **more: Any) -> httpx.Response:
    """The reply to a request that any model may answer."""
    strategy = CascadeStrategy(forecasts or Forecasts())
    kind = replace(STRATEGIES["cascade"], make=lambda context: strategy, needs_store=False)
    prices: dict[str, Price] = {name: PRICES[name] for name in models.scripts}
    router = RouterConfig.model_validate({"strategy": "cascade"})
    core = await models.core_with({"cascade": kind}, router, prices)
    body = {"model": "auto", "messages": [{"role": "user", "content": "1 + 1?"}], **more}
    async with api_client(core, models) as http:
        return await http.post(PATH, json=body)


def three(a: str | Exception = "2", b: str | Exception = "2.0") -> Models:
    return Models({"retries": 0}, a=[says(a, END)], b=[says(b, END)], large=[says("two", END)])


def text(reply: httpx.Response) -> str:
    said: str = reply.json()["choices"][0]["message"]["content"]
    return said


def usd(*models: str) -> float:
    return sum(PRICES[model].input * 100 + PRICES[model].output * 10 for model in models)


async def test_where_two_models_agree_the_answer_of_one_is_sent_and_no_other_is_asked() -> None:
    models = three()
    reply = await asked(models)
    assert sorted(models.order) == ["a", "b"]
    assert reply.headers["x-router-model"] in ("a", "b")
    assert text(reply) == {"a": "2", "b": "2.0"}[reply.headers["x-router-model"]]
    assert "agree" in reply.headers["x-router-reason"]
    assert float(reply.headers["x-router-cost"]) == pytest.approx(usd("a", "b"))
    assert reply.headers["x-router-attempts"] == "2"


async def test_where_they_differ_a_better_model_answers_and_all_three_are_paid_for() -> None:
    models = three(b="3")
    reply = await asked(models)
    assert [name for name, _ in models.asked][2:] == ["large"]
    assert (text(reply), reply.headers["x-router-model"]) == ("two", "large")
    assert "differ" in reply.headers["x-router-reason"]
    assert float(reply.headers["x-router-cost"]) == pytest.approx(usd("a", "b", "large"))
    assert reply.headers["x-router-attempts"] == "3"


async def test_a_probes_answer_is_streamed_too() -> None:
    reply = await asked(three(), stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.text.count('"finish_reason":"stop"') == 1
    assert '"completion_tokens":10' in reply.text
    assert reply.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("error", [ProviderError("down"), InvalidRequest("not for me")])
async def test_a_probe_that_fails_fails_no_request(error: Exception) -> None:
    reply = await asked(three(b=error))
    assert reply.status_code == 200
    assert reply.headers["x-router-model"] in ("a", "large")


async def test_a_probe_that_hangs_is_given_up_on_as_if_another_model_could_take_over() -> None:
    async def hangs(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(60)
        yield END

    models = Models(
        {"first_token_timeout": 0.05}, a=[says("2", END)], b=[hangs], large=[says("two", END)]
    )
    async with asyncio.timeout(10):
        assert (await asked(models)).status_code == 200
    assert models.responses[1].left


async def test_a_probe_that_fails_is_not_repeated() -> None:
    models = Models(
        {"retries": 3},
        a=[says("2", END)],
        b=[says(ProviderError("down"))],
        large=[says("two", END)],
    )
    await asked(models)
    assert models.order.count("b") == 1


async def test_if_both_probes_fail_another_model_answers() -> None:
    reply = await asked(three(a=ProviderError("down"), b=ProviderError("down")))
    assert (text(reply), reply.headers["x-router-model"]) == ("two", "large")


async def test_answers_that_were_cut_agree_with_none() -> None:
    cut = Chunk(finish_reason="length", usage=Usage(100, 10))
    models = Models(a=[says("2", cut)], b=[says("2", cut)], large=[says("two", END)])
    assert (await asked(models, max_tokens=1)).headers["x-router-model"] == "large"


async def test_what_probes_said_is_learned_but_for_the_answer_that_is_learned_anyway() -> None:
    forecasts = Forecasts()
    reply = await asked(three(), forecasts)
    answered = reply.headers["x-router-model"]
    assert forecasts.learned == [({"a": "b", "b": "a"}[answered], digest_of("2"))]
    forecasts = Forecasts()
    await asked(three(b="3"), forecasts)
    assert forecasts.learned == [("a", digest_of("2")), ("b", digest_of("3"))]


async def test_a_caller_who_leaves_while_models_are_probed_ends_them() -> None:
    waiting = asyncio.Event()

    async def hangs(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        waiting.set()
        await asyncio.sleep(60)
        yield END

    models = Models({"timeout": 60}, a=[hangs], b=[hangs], large=[says("two", END)])
    asking = asyncio.create_task(asked(models))
    await waiting.wait()
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert [response.left for response in models.responses] == [True, True]


async def test_a_model_that_is_named_is_not_probed() -> None:
    models = three()
    assert text(await asked(models, model="large")) == "two"
    assert models.order == "large"


async def test_it_decides_no_batch() -> None:
    core = await three().core_with(STRATEGIES, RouterConfig())
    with pytest.raises(InvalidRequest, match="cascade routing does not decide batches"):
        core.strategy_for_batch("cascade", ())
