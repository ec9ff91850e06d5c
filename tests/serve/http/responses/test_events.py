"""Promise: a stream's events are OpenAI's, in their order, and a cut one never looks finished."""

from typing import Any

import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter
from responses_api import checked, events_of
from scripted_models import END, Models, continues, says

from deployments.contract import Chunk, ToolCallDelta, Usage
from deployments.errors import ContextLengthExceeded, ProviderError, RateLimited

STOP = Chunk(finish_reason="stop", usage=Usage(5, 3))
CALLED = Chunk(finish_reason="tool_calls", usage=Usage(5, 3))
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def call(index: int, id: str = "", name: str = "", arguments: str = "") -> Chunk:
    return Chunk(tool_calls=(ToolCallDelta(index, id, name, arguments),))


async def sent(*pieces: str | Chunk | Exception, **fields: Any) -> list[dict[str, Any]]:
    """The events of one model's answer, each as OpenAI's own types have it."""
    events = await events_of(Models({"retries": 0}, m=[says(*pieces)]), **fields)
    for event in events:
        EVENT.validate_python(event)
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == f"response.{kind}"]


async def test_reasoning_then_text_then_calls() -> None:
    events = await sent(
        Chunk(reasoning="H"),
        Chunk(reasoning="m."),
        "Lo",
        "ok.",
        call(0, "c1", "f"),
        call(0, arguments='{"a"'),
        call(0, arguments=":1}"),
        call(1, "c2", "g", "{}"),
        CALLED,
    )
    assert kinds(events) == [
        *("created", "in_progress"),
        *("output_item.added", "reasoning_summary_part.added"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        "output_item.added",
        *("function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        "output_item.added",
        "function_call_arguments.delta",
        *("function_call_arguments.done", "output_item.done"),
        "completed",
    ]
    final = events[-1]["response"]
    checked(final)
    assert final["output"] == [event["item"] for event in of(events, "output_item.done")]
    summary, text, first, second = final["output"]
    assert summary["summary"][0]["text"] == "Hm."
    assert text["content"][0]["text"] == "Look."
    assert (first["call_id"], first["name"], first["arguments"]) == ("c1", "f", '{"a":1}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("c2", "g", "{}")


async def test_each_event_says_which_item_it_is_of() -> None:
    events = await sent(Chunk(reasoning="Hm."), "Look.", call(0, "c1", "f", "{}"), CALLED)
    added = {
        event["output_index"]: event["item"]["id"] for event in of(events, "output_item.added")
    }
    assert [*added] == [0, 1, 2]
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == added[event["output_index"]]
    done = {e["output_index"]: e["item"]["id"] for e in of(events, "output_item.done")}
    assert done == added


async def test_the_first_events_repeat_what_was_asked_and_the_last_has_usage_and_cost() -> None:
    events = await sent("one", STOP, temperature=0.5)
    for event in events[:2]:
        assert event["response"]["status"] == "in_progress"
        assert event["response"]["temperature"] == 0.5
        assert event["response"]["output"] == []
    final = events[-1]["response"]
    assert final["id"] == events[0]["response"]["id"]
    assert (final["status"], final["usage"]["total_tokens"]) == ("completed", 8)
    assert final["router"] == {"model": "m", "attempts": 1, "cost": 8.0}


async def test_pieces_of_calls_that_come_in_turn_are_put_together() -> None:
    events = await sent(
        call(0, "c1", "f", '{"a"'),
        call(1, "c2", "g", "{"),
        call(0, arguments=":1}"),
        call(1, arguments="}"),
        CALLED,
    )
    arguments = [item["arguments"] for item in events[-1]["response"]["output"]]
    assert arguments == ['{"a":1}', "{}"]
    assert len(of(events, "output_item.done")) == 2


async def test_blanks_after_a_call_are_no_part_of_the_next() -> None:
    events = await sent(
        call(0, "c1", "f", "{}"), call(1, "c2", "g", "{}"), call(0, arguments="\n"), CALLED
    )
    assert [item["arguments"] for item in events[-1]["response"]["output"]] == ["{}", "{}"]


async def test_text_after_a_call_is_another_message() -> None:
    events = await sent("a", call(0, "c1", "f", "{}"), "b", CALLED)
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message"]


async def test_an_empty_answer_is_an_empty_message() -> None:
    events = await sent(STOP)
    assert kinds(events)[2:] == [
        *("output_item.added", "content_part.added"),
        *("output_text.done", "content_part.done", "output_item.done"),
        "completed",
    ]


async def test_an_answer_that_was_cut_ends_incomplete() -> None:
    events = await sent("one", Chunk(finish_reason="length", usage=Usage(1, 1)))
    final = events[-1]
    assert final["type"] == "response.incomplete"
    assert final["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert of(events, "output_item.done")[0]["item"]["status"] == "incomplete"
    checked(final["response"])


async def test_logprobs_come_with_their_text() -> None:
    entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    events = await sent(Chunk(text="a", logprobs=(entry,)), STOP, top_logprobs=1)
    assert of(events, "output_text.delta")[0]["logprobs"] == [entry]
    assert of(events, "output_text.done")[0]["logprobs"] == [entry]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry]


@pytest.mark.parametrize(
    ("error", "code", "own"),
    [
        (ProviderError("cut"), "server_error", "provider_error"),
        (RateLimited("full"), "rate_limit_exceeded", "rate_limit_exceeded"),
        (ContextLengthExceeded("long"), "server_error", "context_length_exceeded"),
        (ValueError("a secret"), "server_error", "internal_error"),
    ],
)
async def test_an_error_in_mid_stream_ends_it_as_failed(
    error: Exception, code: str, own: str
) -> None:
    events = await sent("one", error)
    assert kinds(events)[-2:] == ["output_text.delta", "failed"]
    response = events[-1]["response"]
    checked(response)
    assert response["status"] == "failed"
    assert response["error"]["code"] == code
    assert "secret" not in str(response)
    assert response["router"]["error"] == own
    assert response["output"] == []


async def test_what_is_done_before_an_error_is_kept() -> None:
    events = await sent(Chunk(reasoning="Hm."), "one", ProviderError("cut"))
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning"]


async def test_an_unexpected_error_ends_a_stream_as_failed_too() -> None:
    events = await sent("one", "\ud800")
    assert events[-1]["type"] == "response.failed"


async def test_a_rescue_goes_on_in_the_same_message_and_the_last_event_says_who_answered() -> None:
    models = Models(a=[says("one ", ProviderError("cut"))], b=[continues("one two")])
    events = await events_of(models)
    assert events[0]["response"]["model"] == "a"
    final = events[-1]["response"]
    assert (events[-1]["type"], final["model"]) == ("response.completed", "b")
    assert [item["content"][0]["text"] for item in final["output"]] == ["one two"]
    assert final["router"]["rescued"][0]["from"] == "a"
    assert final["usage"]["output_tokens"] == 4


async def test_reasoning_is_sealed_once_it_is_complete() -> None:
    pieces = (Chunk(reasoning="Hm."), "one", END)
    events = await sent(*pieces, include=["reasoning.encrypted_content"])
    assert "encrypted_content" not in of(events, "output_item.added")[0]["item"]
    assert of(events, "output_item.done")[0]["item"]["encrypted_content"]
