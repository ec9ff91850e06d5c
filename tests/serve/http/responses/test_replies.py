"""Promise: a whole answer is a `response` exactly as OpenAI's own types have it."""

from typing import Any

import pytest
from responses_api import PATH, checked, events_of, http_client, reply_of
from scripted_models import END, Models, says

from deployments.contract import Chunk, ToolCallDelta, Usage
from deployments.errors import RateLimited, UnsupportedParameter
from deployments.extras import THINKING_BLOCKS

STOP = Chunk(finish_reason="stop", usage=Usage(5, 3))
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


async def reply(*pieces: str | Chunk, **fields: Any) -> dict[str, Any]:
    """The reply with one model's answer."""
    return await reply_of(Models(m=[says(*pieces)]), **fields)


async def test_reasoning_text_and_calls_are_items_in_this_order() -> None:
    calls = (ToolCallDelta(0, "c1", "f", "{}"), ToolCallDelta(1, "c2", "f", '{"a": 1}'))
    said = await reply(
        Chunk(reasoning="Hm."), "Look.", Chunk(tool_calls=calls), Chunk(finish_reason="tool_calls")
    )
    assert said["status"] == "completed"
    reasoning, message, *called = said["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert "encrypted_content" not in reasoning
    assert message["content"][0]["text"] == "Look."
    assert [(call["call_id"], call["arguments"]) for call in called] == [
        ("c1", "{}"),
        ("c2", '{"a": 1}'),
    ]
    ids = [item["id"] for item in said["output"]]
    assert [id.partition("_")[0] for id in ids] == ["rs", "msg", "fc", "fc"]
    assert len({*ids}) == 4


async def test_it_says_what_answered_and_what_it_took() -> None:
    usage = Usage(50, 30, cached_tokens=20, reasoning_tokens=10, cache_written_tokens=5)
    models = Models(
        a=[says(RateLimited("full"))], b=[says("one", Chunk(finish_reason="stop", usage=usage))]
    )
    async with await http_client(models) as http:
        answer = await http.post(PATH, json={"model": "auto", "input": "Hi"})
    response = checked(answer.json())
    assert response.id.startswith("resp_")
    assert (response.model, response.output_text) == ("b", "one")
    assert response.usage is not None
    assert response.usage.to_dict() == {
        "input_tokens": 50,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 10},
        "total_tokens": 80,
    }
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-router")}
    assert told == {
        "x-router-model": "b",
        "x-router-strategy": "sequential",
        "x-router-attempts": "2",
        "x-router-cost": "80",
    }


async def test_it_repeats_what_was_asked_and_stores_nothing() -> None:
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "top_p": 0.5,
        "user": "u",
        "service_tier": "flex",
    }
    said = await reply("{}", STOP, tools=[TOOL], store=True, **asked)
    assert {name: said[name] for name in asked} == asked
    assert said["tools"] == [{**TOOL, "description": None}]
    assert (said["store"], said["background"], said["previous_response_id"]) == (False, False, None)


async def test_the_tier_is_the_one_that_served_it() -> None:
    served = Chunk(finish_reason="stop", usage=Usage(1, 1, service_tier="priority"))
    assert (await reply("x", served, service_tier="auto"))["service_tier"] == "priority"


@pytest.mark.parametrize(
    ("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_was_cut_is_incomplete(reason: Any, why: str) -> None:
    said = await reply("one", Chunk(finish_reason=reason, usage=Usage(1, 1)))
    assert (said["status"], said["incomplete_details"]) == ("incomplete", {"reason": why})
    assert said["output"][-1]["status"] == "incomplete"
    assert said["completed_at"] is None


async def test_an_empty_answer_is_an_empty_message_unless_it_was_cut() -> None:
    assert checked(await reply(STOP)).output_text == ""
    assert len((await reply(STOP))["output"]) == 1
    cut = Chunk(finish_reason="length", usage=Usage(1, 1))
    assert [item["type"] for item in (await reply(Chunk(reasoning="Hm"), cut))["output"]] == [
        "reasoning"
    ]


async def test_logprobs_have_the_form_of_a_response() -> None:
    entry = {
        "token": "a",
        "logprob": -0.5,
        "bytes": None,
        "top_logprobs": [{"token": "b", "logprob": -1.0}],
    }
    said = await reply(Chunk(text="a", logprobs=(entry,)), STOP, top_logprobs=1)
    [logprob] = said["output"][0]["content"][0]["logprobs"]
    other = {"token": "b", "logprob": -1.0, "bytes": []}
    assert logprob == {"token": "a", "logprob": -0.5, "bytes": [], "top_logprobs": [other]}


async def test_reasoning_can_be_sent_back_by_what_is_sealed_in_it() -> None:
    said = await reply(Chunk(reasoning="Hm."), "one", STOP, include=["reasoning.encrypted_content"])
    item = {**said["output"][0], "summary": []}
    models = Models(m=[says("two", END)])
    await reply_of(models, input=[item, said["output"][1], {"role": "user", "content": "And?"}])
    [(_, request)] = models.asked
    assert request.messages[0] == {
        "role": "assistant",
        "content": "one",
        "reasoning_content": "Hm.",
    }


SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "ZGF0YQ=="}


@pytest.mark.parametrize("streamed", [False, True])
async def test_signed_thinking_comes_back_to_its_provider(streamed: bool) -> None:
    """Whether or not the caller asks for sealed reasoning: without it, tool loops lose it."""
    thought = Chunk(reasoning="Hm.")
    signed, redacted = (Chunk(extra=((THINKING_BLOCKS, block),)) for block in (SIGNED, REDACTED))
    calls = Chunk(tool_calls=(ToolCallDelta(0, "c1", "f", "{}"),))
    models = Models(m=[says(thought, signed, redacted, calls, Chunk(finish_reason="tool_calls"))])
    if streamed:
        said = (await events_of(models, tools=[TOOL]))[-1]["response"]
    else:
        said = await reply_of(models, tools=[TOOL])
    assert [item["type"] for item in said["output"]] == ["reasoning", "function_call"]
    output = {"type": "function_call_output", "call_id": "c1", "output": "1"}
    items = [{"role": "user", "content": "Hi"}, *said["output"], output]
    await reply_of(models, input=items, tools=[TOOL], instructions="Be brief.")
    request = models.asked[-1][1]
    assert request.messages[2]["role"] == "assistant"
    assert request.extra == {THINKING_BLOCKS: {2: [SIGNED, REDACTED]}}


@pytest.mark.parametrize(
    ("chats", "ours"),
    [
        ("response_format", "text.format"),
        ("reasoning_effort", "reasoning.effort"),
        ("verbosity", "text.verbosity"),
        ("max_completion_tokens", "max_output_tokens"),
        ("messages.3.content", "input"),
        ("tools.0.function.name", "tools.0.name"),
        ("temperature", "temperature"),
    ],
)
async def test_errors_name_the_fields_that_the_caller_sent(chats: str, ours: str) -> None:
    refusal = UnsupportedParameter(f"model 'm' does not support '{chats}'", param=chats)
    async with await http_client(Models({"retries": 0}, m=[says(refusal)])) as http:
        answer = await http.post(PATH, json={"model": "auto", "input": "Hi"})
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": f"model 'm' does not support '{ours}'",
        "type": "invalid_request_error",
        "param": ours,
        "code": "unsupported_parameter",
    }
