"""Promise: chunks cross processes unchanged and in few bytes, and add up to the whole answer."""

import pickle
from dataclasses import fields

import pytest

from deployments.contract import Chunk, ToolCallDelta, Usage, merge

FULL = Chunk(
    text="a",
    reasoning="b",
    tool_calls=(ToolCallDelta(1, "id", "f", "{}"),),
    logprobs=({"token": "a"},),
    finish_reason="stop",
    usage=Usage(1, 2, 3, 4, 5, 6, "flex"),
    extra=(("raw", b"1"),),
)


@pytest.mark.parametrize("name", [field.name for field in fields(Chunk)])
def test_each_field_of_a_chunk_arrives(name: str) -> None:
    """Also where it is the only one."""
    alone = Chunk(**{name: getattr(FULL, name)})
    assert pickle.loads(pickle.dumps(alone)) == alone
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_a_chunk_of_text_is_little_more_than_the_text() -> None:
    assert len(pickle.dumps(Chunk(text="a" * 100))) < 160


def test_the_pieces_of_a_tool_call_are_joined_within_one_chunk_too() -> None:
    pieces = (ToolCallDelta(0, "id", "f", '{"a"'), ToolCallDelta(0, arguments=": 1}"))
    whole = merge([Chunk(tool_calls=pieces)])
    assert whole.tool_calls == (ToolCallDelta(0, "id", "f", '{"a": 1}'),)
