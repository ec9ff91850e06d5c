"""Promise: answers become what OpenAI's clients read, and a cut answer never looks finished."""

import json
import time

from scripted_models import STREAMED, Models, says

from deployments.contract import Chunk, ToolCallDelta, Usage, merge
from deployments.errors import ProviderError
from serve.access.keys import ANYONE
from serve.http.chat.replies import completion, events
from serve.http.middleware.access_log import Access
from serve.request import Request
from serve.routing.prices import Price

CALL = (
    Chunk(tool_calls=(ToolCallDelta(0, id="c1", name="f", arguments='{"a"'),)),
    Chunk(tool_calls=(ToolCallDelta(1, id="c2", name="g", arguments="{}"),)),
    Chunk(tool_calls=(ToolCallDelta(0, arguments=": 1}"),)),
    Chunk(finish_reason="tool_calls"),
    Chunk(usage=Usage(3, 5)),
)


async def sent(*pieces: Chunk | Exception, usage: bool = False) -> list[str]:
    """The events of one model's streamed answer."""
    return await events_of(Models({"retries": 0}, m=[says(*pieces)]), usage=usage)


async def events_of(models: Models, *, usage: bool = False) -> list[str]:
    core = await models.core(prices=dict.fromkeys(models.scripts, Price(0, 0.5)))
    answer = await core.answer(Request(STREAMED, id="1"), ANYONE, time.monotonic() + 60)
    reply = events(answer, include_usage=usage, access=Access("POST", "/"))
    text = b"".join([part async for part in reply]).decode()
    return [event.removeprefix("data: ") for event in text.removesuffix("\n\n").split("\n\n")]


def test_a_whole_answer_is_the_sum_of_its_chunks() -> None:
    reply = completion(merge(CALL), id="1", model="m")
    message = reply["choices"][0]["message"]
    assert message["content"] is None
    arguments = [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]]
    assert arguments == [{"a": 1}, {}]
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    assert reply["usage"]["total_tokens"] == 8


def test_an_empty_answer_is_empty_text() -> None:
    reply = completion(Chunk(finish_reason="stop"), id="1", model="m")
    assert reply["choices"][0]["message"]["content"] == ""


async def test_merging_is_associative() -> None:
    assert merge([merge(CALL[:2]), merge(CALL[2:])]) == merge(CALL)


async def test_the_role_comes_once_and_the_end_once() -> None:
    *bodies, done = await sent(Chunk(text="a"), Chunk(text="b"), Chunk(finish_reason="length"))
    assert done == "[DONE]"
    deltas = [json.loads(body)["choices"][0]["delta"] for body in bodies]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": "b"}, {}]
    reasons = [json.loads(body)["choices"][0]["finish_reason"] for body in bodies]
    assert reasons == [None, None, "length"]


async def test_every_event_of_a_stream_is_a_chunk_of_the_same_completion() -> None:
    """Whatever it holds: those of text alone are written in another way."""
    text, quoted, both, *_ = [
        json.loads(body)
        for body in await sent(
            Chunk(text="a"),
            Chunk(text='"é\u2028\n'),
            Chunk(text="c", logprobs=({"token": "c"},)),
            Chunk(finish_reason="stop"),
        )
        if body != "[DONE]"
    ]
    assert quoted["choices"] == [
        {
            "index": 0,
            "delta": {"content": '"é\u2028\n'},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert both["choices"][0]["logprobs"] == {"content": [{"token": "c"}]}
    heads = [{**chunk, "choices": None} for chunk in (text, quoted, both)]
    assert heads[0] == heads[1] == heads[2]
    assert [*text] == [*quoted] == ["id", "object", "created", "model", "choices"]


async def test_usage_comes_only_when_asked_for() -> None:
    chunks = (Chunk(text="a", finish_reason="stop"), Chunk(usage=Usage(1, 2)))
    asked = await sent(*chunks, usage=True)
    assert json.loads(asked[-2])["usage"]["total_tokens"] == 3
    assert json.loads(asked[-2])["choices"] == []
    unasked = await sent(*chunks)
    assert not any("usage" in event for event in unasked)


async def test_the_end_of_a_stream_says_what_a_whole_answer_says_in_headers() -> None:
    *_, end, _ = await sent(Chunk(text="a", finish_reason="stop"), Chunk(usage=Usage(1, 2)))
    assert json.loads(end)["router"] == {"model": "m", "attempts": 1, "cost": 1.0}


async def test_the_end_of_a_stream_reports_the_models_that_broke_off() -> None:
    breaks_off = says(Chunk(reasoning="r" * 20), "t" * 40, ProviderError("cut"))
    goes_on = says(Chunk(text="end", finish_reason="stop", usage=Usage(30, 7)))
    *_, end, usage, _ = await events_of(Models(a=[breaks_off], b=[goes_on]), usage=True)
    router = json.loads(end)["router"]
    assert router["rescued"] == [
        {
            "from": "a",
            "error": "provider_error",
            "characters": 40,
            "reasoning_characters": 20,
            "mode": "continued",
        }
    ]
    nothing = {"prompt_tokens": None, "completion_tokens": None, "cost": None}
    assert router["usage"] == [
        {"model": "a", **nothing},
        {"model": "b", "prompt_tokens": 30, "completion_tokens": 7, "cost": 3.5},
    ]
    assert router["cost"] == 3.5
    assert json.loads(end)["model"] == "b"
    in_all = json.loads(usage)["usage"]
    assert (in_all["prompt_tokens"], in_all["completion_tokens"]) == (20, 22)


async def test_a_stream_that_breaks_off_ends_with_its_error_and_without_done() -> None:
    body, error = await sent(Chunk(text="a"), ProviderError("cut"))
    assert json.loads(body)["choices"][0]["finish_reason"] is None
    assert json.loads(error)["error"]["code"] == "provider_error"


async def test_an_unexpected_error_ends_a_stream_with_an_error_too() -> None:
    body, error = await sent(Chunk(text="a"), Chunk(text="\ud800"))
    assert json.loads(body)["choices"][0]["delta"]["content"] == "a"
    assert json.loads(error)["error"]["code"] == "internal_error"


async def test_only_the_first_piece_of_a_tool_call_has_its_name() -> None:
    deltas = [json.loads(e)["choices"][0]["delta"] for e in (await sent(*CALL))[:3]]
    first, _, later = (delta["tool_calls"][0] for delta in deltas)
    assert (first["id"], first["type"], first["function"]["name"]) == ("c1", "function", "f")
    assert later == {"index": 0, "function": {"arguments": ": 1}"}}
