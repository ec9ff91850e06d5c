"""Promise: chunks become what OpenAI's clients read, and a cut answer never looks finished."""

import json
from collections.abc import AsyncGenerator

from deployments.contract import Chunk, ToolCallDelta, Usage, merge
from deployments.errors import ProviderError
from serve.core import Answer
from serve.dispatch import dispatcher as dispatch
from serve.dispatch.rescue import Rescue
from serve.http.access_log import Access
from serve.http.replies import completion, events
from serve.routing.prices import Price
from serve.routing.strategy import Ranking

CALL = (
    Chunk(tool_calls=(ToolCallDelta(0, id="c1", name="f", arguments='{"a"'),)),
    Chunk(tool_calls=(ToolCallDelta(1, id="c2", name="g", arguments="{}"),)),
    Chunk(tool_calls=(ToolCallDelta(0, arguments=": 1}"),)),
    Chunk(finish_reason="tool_calls"),
    Chunk(usage=Usage(3, 5)),
)


async def stream(*chunks: Chunk, error: Exception | None = None) -> AsyncGenerator[Chunk, None]:
    for chunk in chunks:
        yield chunk
    if error:
        raise error


async def sent(
    *chunks: Chunk,
    error: Exception | None = None,
    usage: bool = False,
    rescues: tuple[Rescue, ...] = (),
) -> list[str]:
    dispatched = dispatch.Answer("m", attempts=2, started=0.0, rescues=list(rescues))
    dispatched.chunks = dispatched.asked = stream(*chunks, error=error)
    prices = {"m": Price(0, 0.5)}
    answer = Answer("1", "test", Ranking(["m"]), 0.5, dispatched, prices, dispatched.chunks)
    reply = events(answer, include_usage=usage, access=Access("POST", "/"))
    return [event.decode().removeprefix("data: ").rstrip() async for event in reply]


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


async def test_merging_changes_no_stream() -> None:
    assert merge([merge(CALL[:2]), merge(CALL[2:])]) == merge(CALL)


async def test_the_role_comes_once_and_the_end_once() -> None:
    *bodies, done = await sent(Chunk(text="a"), Chunk(text="b"), Chunk(finish_reason="length"))
    assert done == "[DONE]"
    deltas = [json.loads(body)["choices"][0]["delta"] for body in bodies]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": "b"}, {}]
    reasons = [json.loads(body)["choices"][0]["finish_reason"] for body in bodies]
    assert reasons == [None, None, "length"]


async def test_usage_comes_only_when_asked_for() -> None:
    chunks = (Chunk(text="a", finish_reason="stop"), Chunk(usage=Usage(1, 2)))
    asked = await sent(*chunks, usage=True)
    assert json.loads(asked[-2])["usage"]["total_tokens"] == 3
    assert json.loads(asked[-2])["choices"] == []
    unasked = await sent(*chunks)
    assert not any("usage" in event for event in unasked)


async def test_the_end_of_a_stream_says_what_a_whole_answer_says_in_headers() -> None:
    *_, end, _ = await sent(Chunk(text="a", finish_reason="stop"), Chunk(usage=Usage(1, 2)))
    assert json.loads(end)["router"] == {"model": "m", "attempts": 2, "cost": 1.0}


async def test_the_end_of_a_stream_says_who_broke_off() -> None:
    rescue = Rescue("other", "provider_error", 40, 20, "continued", 10, 5)
    chunk = Chunk(text="a", finish_reason="stop", usage=Usage(30, 7))
    *_, end, usage, _ = await sent(chunk, rescues=(rescue,), usage=True)
    router = json.loads(end)["router"]
    assert router["rescued"] == [
        {
            "from": "other",
            "error": "provider_error",
            "characters": 40,
            "reasoning_characters": 20,
            "mode": "continued",
        }
    ]
    nothing = {"prompt_tokens": None, "completion_tokens": None, "cost": None}
    assert router["usage"] == [
        {"model": "other", **nothing},
        {"model": "m", "prompt_tokens": 30, "completion_tokens": 7, "cost": 3.5},
    ]
    assert router["cost"] == 3.5
    in_all = json.loads(usage)["usage"]
    assert (in_all["prompt_tokens"], in_all["completion_tokens"]) == (20, 22)


async def test_a_cut_stream_ends_in_its_error_and_is_not_done() -> None:
    body, error = await sent(Chunk(text="a"), error=ProviderError("cut"))
    assert json.loads(body)["choices"][0]["finish_reason"] is None
    assert json.loads(error)["error"]["code"] == "provider_error"


async def test_what_nobody_foresaw_ends_a_stream_with_an_error_too() -> None:
    body, error = await sent(Chunk(text="a"), Chunk(text="\ud800"))
    assert json.loads(body)["choices"][0]["delta"]["content"] == "a"
    assert json.loads(error)["error"]["code"] == "internal_error"


async def test_a_tool_call_names_itself_in_its_first_piece_only() -> None:
    deltas = [json.loads(e)["choices"][0]["delta"] for e in (await sent(*CALL))[:3]]
    first, _, later = (delta["tool_calls"][0] for delta in deltas)
    assert (first["id"], first["type"], first["function"]["name"]) == ("c1", "function", "f")
    assert later == {"index": 0, "function": {"arguments": ": 1}"}}
