"""Promise: `POST /v1/route` with `"as": "chat"` says what a chat would do, and does nothing."""

import asyncio
from typing import Any

import httpx
import pytest
from recorded import Recorded
from scripted_models import END, Models, api_client, says

from deployments.errors import ProviderError
from serve.config import RouterConfig
from serve.routing.sequential import SequentialStrategy, Turns
from serve.routing.strategy import Question, Ranking
from serve.strategies import Kind

QUERY = "Count."
FIVE = "abcde"


def models() -> Models:
    return Models({"retries": 0}, **{name: [says("one", END)] for name in FIVE})


async def client(models: Models) -> httpx.AsyncClient:
    turns = Turns()
    strategy = SequentialStrategy(
        lambda key: asyncio.sleep(0, turns.next(key)), lambda key: asyncio.sleep(0, turns.peek(key))
    )
    return api_client(await models.core(strategy), models)


async def preview(http: httpx.AsyncClient, **more: Any) -> httpx.Response:
    return await http.post("/v1/route", json={"queries": [QUERY], "as": "chat", **more})


async def chat(http: httpx.AsyncClient, **more: Any) -> str:
    body = {"model": "auto", "messages": [{"role": "user", "content": QUERY}], **more}
    reply = await http.post("/v1/chat/completions", json=body)
    return str(reply.json()["model"])


async def test_with_turns_it_names_the_next_one_and_takes_none() -> None:
    recorded = Recorded()
    asked = models()
    async with await client(asked) as http:
        for turn in range(7):
            for _ in range(2):
                reply = (await preview(http)).json()
                (route,) = reply["data"]
                assert reply["as"] == "chat"
                assert reply["strategy"] == "sequential"
                assert route["model"] == FIVE[turn % 5]
                order = "".join(each["model"] for each in route["candidates"])
                assert order == FIVE[turn % 5 :] + FIVE[: turn % 5]
            assert len(asked.asked) == turn, "no model was asked"
            assert await chat(http) == route["model"]
        few = {"models": ["b", "d"]}
        assert (await preview(http, **few)).json()["data"][0]["model"] == await chat(http, **few)
    assert recorded("llm_choices_total") == 8


async def test_a_model_that_keeps_failing_or_isnt_there_is_not_named() -> None:
    asked = models()
    for _ in range(10):
        asked.circuits.failed("a", ProviderError("down"))
    async with await client(asked) as http:
        (route,) = (await preview(http)).json()["data"]
        assert "a" not in {each["model"] for each in route["candidates"]}
        assert await chat(http) == route["model"]
        assert (await preview(http, models=["z"])).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"queries": [QUERY, QUERY]}, "takes one query"),
        ({"input_tokens": [3]}, "leave them out"),
        ({"capacities": {"a": 1}}, "leave them out"),
        ({"as": "poem"}, "batch"),
        ({"router": {"performance_requirement": 0.9}}, "performance_requirement"),
    ],
)
async def test_what_it_cant_do_is_a_clear_error(more: dict[str, Any], said: str) -> None:
    async with await client(models()) as http:
        reply = await preview(http, **more)
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]


async def test_a_strategy_that_cant_say_is_a_clear_error() -> None:
    class Secretive:
        async def rank(self, question: Question) -> Ranking:
            return Ranking(list(question.available))

    asked = models()
    kinds = {"sequential": Kind(lambda context: Secretive())}
    core = await asked.core_with(kinds, RouterConfig())
    async with api_client(core, asked) as http:
        reply = await preview(http)
    assert reply.json()["error"]["param"] == "router.strategy"
