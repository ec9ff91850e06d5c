"""Promise: a strategy is one class and one row, and is chosen by name wherever a name is given."""

import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from scripted_models import END, REQUEST, STREAMED, Models, api_client, says

from deployments.errors import InvalidRequest
from serve.access.keys import ANYONE
from serve.config import ConfigError, RouterConfig, load_config
from serve.request import Request, RouterOptions
from serve.routing.strategy import Question, Ranking
from serve.strategies import STRATEGIES, Context, Kind, Strategies

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "Count."}]}


class LeastBusy:
    """Prefers the model with the fewest requests in flight."""

    def __init__(self, in_flight: Mapping[str, int]) -> None:
        self._in_flight = in_flight

    async def rank(self, question: Question) -> Ranking:
        models = sorted(question.available, key=self._in_flight.__getitem__)
        return Ranking(models, f"{self._in_flight[models[0]]} requests in flight")


@pytest.fixture
def least_busy(monkeypatch: pytest.MonkeyPatch) -> str:
    """The row of the strategy above, under its name."""
    row = Kind(lambda context: LeastBusy(context.in_flight))
    monkeypatch.setitem(STRATEGIES, "least_busy", row)
    return "least_busy"


async def client(models: Models, router: RouterConfig) -> httpx.AsyncClient:
    """A client of the API over scripted models, with every strategy that there is."""
    return api_client(await models.core_with(STRATEGIES, router), models)


def both() -> Models:
    return Models(a=[says("one", END)], b=[says("two", END)])


async def test_a_third_strategy_is_chosen_by_the_configuration(least_busy: str) -> None:
    llms = {"models": [{"name": "a", "backend": "openai"}], "router": {"strategy": least_busy}}
    router = load_config({"llms": llms}).llms.router
    core = await both().core_with(STRATEGIES, router)
    answers = [
        await core.answer(Request(STREAMED), ANYONE, time.monotonic() + 10) for _ in range(2)
    ]
    assert [answer.model for answer in answers] == ["a", "b"]  # the first is busy with the first
    assert {answer.strategy for answer in answers} == {"least_busy"}
    for answer in answers:
        await answer.aclose()
    assert (await core.answer(Request(REQUEST), ANYONE, time.monotonic() + 10)).model == "a"


async def test_a_third_strategy_is_chosen_by_a_request(least_busy: str) -> None:
    async with await client(both(), RouterConfig()) as http:
        wishes = {"router": {"strategy": least_busy}}
        reply = await http.post("/v1/chat/completions", json=CHAT | wishes)
    assert reply.status_code == 200
    assert reply.headers["x-router-strategy"] == "least_busy"


@pytest.mark.parametrize("chosen_by", ["configuration", "request"])
async def test_a_third_strategy_decides_batches(least_busy: str, chosen_by: str) -> None:
    router = RouterConfig(strategy=least_busy if chosen_by == "configuration" else "sequential")
    wishes = {} if chosen_by == "configuration" else {"router": {"strategy": least_busy}}
    async with await client(both(), router) as http:
        reply = await http.post("/v1/route", json={"queries": ["p", "q"], **wishes})
    assert reply.json() == {
        "object": "list",
        "data": [
            {
                "index": index,
                "model": "a",
                "reason": "0 requests in flight",
                "candidates": [{"model": "a"}, {"model": "b"}],
            }
            for index in range(2)
        ],
    }


@pytest.mark.parametrize(
    ("path", "body", "param", "says_"),
    [
        ("/v1/route", {"queries": ["q"], "capacities": {"a": 1}}, "capacities", "use a strategy"),
        ("/v1/route", {"queries": ["q"], "router": {"mode": "floor"}}, "router", "`mode`"),
        ("/v1/chat/completions", {"router": {"performance_requirement": 0.5}}, "router", "smart"),
        ("/v1/chat/completions", {"router": {"strategy": "magic"}}, "router.strategy", "one of"),
        ("/v1/chat/completions", {"router": {"strategy": "smart"}}, "router.strategy", "a store"),
        ("/v1/route", {"queries": ["q"], "router": {"strategy": "sequential"}}, None, "batches"),
    ],
)
async def test_an_option_or_need_that_cannot_be_met_is_refused(
    least_busy: str, path: str, body: dict[str, Any], param: str | None, says_: str
) -> None:
    chat = CHAT if path == "/v1/chat/completions" else {}
    async with await client(both(), RouterConfig(strategy=least_busy)) as http:
        reply = await http.post(path, json={**chat, **body})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == param
    assert says_ in error["message"]


def test_an_unknown_name_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValidationError, match="one of: sequential, smart"):
        RouterOptions(strategy="magic")
    llms = {"models": [{"name": "a", "backend": "openai"}], "router": {"strategy": "magic"}}
    with pytest.raises(ConfigError, match=r"llms\.router\.strategy: must be one of: sequential"):
        load_config({"llms": llms})


def test_a_strategy_that_needs_prices_is_refused_where_one_is_missing() -> None:
    kinds = {"cheapest": Kind(lambda context: LeastBusy({}), needs_prices=True)}
    strategies = Strategies(["a"], Context(prices=dict, in_flight={}), kinds)
    with pytest.raises(InvalidRequest, match="'a' has none"):
        strategies.choose("cheapest")


async def test_a_configuration_cannot_choose_a_strategy_that_lacks_its_store() -> None:
    with pytest.raises(ValueError, match=r"user_config\.router\.strategy: smart routing needs"):
        await both().core_with(STRATEGIES, RouterConfig(strategy="smart"))
