"""Promise: a request says what shape its answer will have."""

from typing import Any

import pytest

from deployments.contract import ChatRequest
from deployments.messages import UserMessage

TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
JSON = {"type": "json_object"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "sum", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("parameters", "shape"),
    [
        ({}, "text"),
        ({"response_format": {"type": "text"}}, "text"),
        ({"response_format": JSON}, "json"),
        ({"response_format": SCHEMA}, "json"),
        ({"tools": [TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tools"),
        ({"tools": [TOOL], "tool_choice": "none"}, "text"),
        ({"tools": [TOOL], "response_format": JSON}, "tools"),
        ({"tools": [TOOL], "tool_choice": "none", "response_format": JSON}, "json"),
        ({"tools": []}, "text"),
    ],
)
def test_the_shape_of_an_answer_follows_from_the_request(
    parameters: dict[str, Any], shape: str
) -> None:
    message = UserMessage(role="user", content="Add 7 and 5.")
    assert ChatRequest(model="auto", messages=[message], **parameters).shape == shape
