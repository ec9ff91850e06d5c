"""Promise: blocks come one after another, whatever order the chunks have, and none is lost."""

from typing import Any

import pytest

from deployments.contract import Chunk, ToolCallDelta, merge
from deployments.extras import THINKING_BLOCKS
from serve.http.messages.blocks import Blocks, Event, content

A = {"type": "thinking", "thinking": "one", "signature": "s1"}
B = {"type": "thinking", "thinking": "two", "signature": "s2"}
HIDDEN = {"type": "redacted_thinking", "data": "d"}


def call(index: int, arguments: str, *, new: bool = False) -> Chunk:
    named = (f"id{index}", f"f{index}") if new else ("", "")
    return Chunk(tool_calls=(ToolCallDelta(index, *named, arguments),))


def signed(*blocks: dict[str, str]) -> Chunk:
    return Chunk(extra=tuple((THINKING_BLOCKS, block) for block in blocks))


def events_of(*chunks: Chunk) -> list[Event]:
    blocks = Blocks()
    events = [event for chunk in chunks for event in blocks.add(chunk)]
    return [*events, *blocks.end()]


def check_sequence(events: list[Event]) -> None:
    """Each block starts once, has its deltas and stops before the next."""
    at, is_open = 0, False
    for event in events:
        assert event["index"] == at
        match event["type"]:
            case "content_block_start":
                assert not is_open
                is_open = True
            case "content_block_delta":
                assert is_open
            case "content_block_stop":
                assert is_open
                is_open, at = False, at + 1
    assert not is_open


def whole(*chunks: Chunk, cut: bool = False) -> list[dict[str, Any]]:
    events = events_of(*chunks)
    check_sequence(events)
    return content(events, cut=cut)


def use(index: int, **input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"id{index}", "name": f"f{index}", "input": input}


TEXT = {"type": "text", "text": "so"}


@pytest.mark.parametrize("merged", [False, True])
def test_calls_that_interleave(merged: bool) -> None:
    chunks = [
        call(0, '{"a"', new=True),
        call(1, "{", new=True),
        call(0, ": 1"),
        call(1, '"b": 2}'),
        call(0, "}"),
        call(2, '{"c": 3}', new=True),
    ]
    said = whole(merge(chunks)) if merged else whole(*chunks)
    assert said == [use(0, a=1), use(1, b=2), use(2, c=3)]


def test_the_first_call_streams_while_others_wait() -> None:
    blocks = Blocks()
    for chunk in (call(0, '{"a"', new=True), call(1, "{}", new=True)):
        list(blocks.add(chunk))
    (delta,) = blocks.add(call(0, ": "))
    assert delta["delta"] == {"type": "input_json_delta", "partial_json": ": "}
    events = list(blocks.add(call(0, "1}")))
    assert [event["type"] for event in events] == [
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]


def test_text_in_the_middle_of_a_call_follows_it() -> None:
    said = whole(call(0, '{"a"', new=True), Chunk(text="so"), call(0, ": 1}"))
    assert said == [use(0, a=1), TEXT]


def test_text_between_calls_keeps_its_place() -> None:
    said = whole(call(0, "{}", new=True), Chunk(text="so"), call(1, "{}", new=True))
    assert said == [use(0), TEXT, use(1)]


def test_text_waits_for_a_call_that_never_ends() -> None:
    said = whole(call(0, '{"a', new=True), Chunk(text="so"))
    assert said == [{**use(0), "input": {"INVALID_JSON": '{"a'}}, TEXT]


def test_arguments_that_were_cut_are_what_came() -> None:
    assert whole(call(0, '{"a": 1, "b', new=True), cut=True) == [use(0, a=1)]


@pytest.mark.parametrize("arguments", ["5", "[1]", "{'a': 1}"])
def test_arguments_that_are_no_object_are_wrapped(arguments: str) -> None:
    (said,) = whole(call(0, arguments, new=True))
    assert said["input"] == {"INVALID_JSON": arguments}


def test_white_space_after_a_call_has_ended_is_not_a_call() -> None:
    said = whole(call(0, "{}", new=True), call(1, "{}", new=True), call(0, "\n"))
    assert said == [use(0), use(1)]


@pytest.mark.parametrize("merged", [False, True])
def test_several_thinking_blocks_keep_their_own_signatures(merged: bool) -> None:
    chunks = [
        Chunk(reasoning="o"),
        Chunk(reasoning="ne"),
        signed(A),
        signed(HIDDEN),
        Chunk(reasoning="two"),
        signed(B),
        Chunk(text="so"),
    ]
    said = whole(merge(chunks)) if merged else whole(*chunks)
    assert said == [A, HIDDEN, B, TEXT]


def test_a_block_without_text_has_its_signature() -> None:
    """As where the caller wants none shown."""
    empty = {**A, "thinking": ""}
    assert whole(signed(empty), Chunk(text="so")) == [empty, TEXT]


def test_a_signature_of_other_reasoning_is_left_out() -> None:
    """Another model has taken over; a wrong signature would be refused later."""
    unsigned = {"type": "thinking", "thinking": "zero\n\none", "signature": ""}
    said = whole(Chunk(reasoning="zero"), Chunk(reasoning="\n\none"), signed(A), Chunk(text="so"))
    assert said == [unsigned, TEXT]


def test_an_empty_answer_has_no_blocks() -> None:
    assert whole(Chunk(finish_reason="stop")) == []
