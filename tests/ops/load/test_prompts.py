"""Promise: requests are what the schedule says, their prompts as long, alike only where asked."""

import json
from dataclasses import replace
from typing import Any

import pytest

from deployments.request import ChatRequest
from ops.load.prompts import body, prompt
from ops.load.schedule import Planned
from serve.http.chat.requests import parse

PLANNED = Planned(0.0, 0, "steady 1", "auto", "text", True, 200, 30)
NONCE = "01234567"


def fields(planned: Planned, router: Any = None, ignore_eos: bool = False) -> dict[str, Any]:
    return dict(json.loads(body(planned, 0, NONCE, router, ignore_eos)))


@pytest.mark.parametrize("tokens", [1, 2, 10, 50, 512, 8000])
def test_a_prompt_is_as_long_as_wanted(tokens: int) -> None:
    text = prompt(replace(PLANNED, prompt_tokens=tokens), 0, NONCE)
    assert text
    assert abs(len(text) - 4 * tokens) <= 4


def test_no_two_prompts_begin_alike_and_each_is_the_same_again() -> None:
    prompts = [prompt(replace(PLANNED, number=number), 0, NONCE) for number in range(1000)]
    assert len({text[:16] for text in prompts}) == 1000
    assert prompt(PLANNED, 0, NONCE) == prompts[0]
    assert prompt(PLANNED, 1, NONCE) != prompts[0]


@pytest.mark.parametrize("blocks", [(), (7, 8)])
def test_prompts_of_another_run_begin_otherwise_and_go_on_the_same(blocks: tuple[int, ...]) -> None:
    planned = replace(PLANNED, prompt_tokens=1000, blocks=blocks)
    one, two = prompt(planned, 0, NONCE), prompt(planned, 0, "89abcdef")
    assert one[:16] != two[:16]
    assert one[16:] == two[16:]


def test_equal_blocks_are_equal_text() -> None:
    one = prompt(replace(PLANNED, prompt_tokens=1400, blocks=(7, 8, 9)), 0, NONCE)
    two = prompt(replace(PLANNED, prompt_tokens=1500, blocks=(7, 8, 10), number=1), 0, NONCE)
    assert one[: 1024 * 4] == two[: 1024 * 4]
    assert one[1024 * 4 : 1200 * 4] != two[1024 * 4 : 1200 * 4]
    assert len(one) == 1400 * 4


def test_a_stream_asks_for_its_usage_and_a_whole_answer_is_none() -> None:
    assert fields(PLANNED)["stream_options"] == {"include_usage": True}
    assert "stream" not in fields(replace(PLANNED, stream=False))


def test_tools_json_and_lengths_are_asked_for() -> None:
    assert fields(replace(PLANNED, kind="tools"))["tools"]
    assert fields(replace(PLANNED, kind="json"))["response_format"]["type"] == "json_schema"
    assert fields(PLANNED)["max_tokens"] == 30
    assert "ignore_eos" not in fields(PLANNED)
    assert fields(PLANNED, ignore_eos=True)["ignore_eos"] is True


def test_routing_is_wished_for_all_models_only() -> None:
    router = {"strategy": "sequential"}
    assert fields(PLANNED, router)["router"] == router
    assert "router" not in fields(replace(PLANNED, model="small"), router)


@pytest.mark.parametrize("kind", ["text", "tools", "json"])
def test_the_service_understands_each_kind(kind: Any) -> None:
    router = {"performance_requirement": 0.9}
    request = parse(body(replace(PLANNED, kind=kind), 0, NONCE, router, True))
    assert isinstance(request.chat, ChatRequest)
