"""Promise: of each response is known who answered, its tokens and cost, and whether it is whole."""

import json
from typing import Any

import pytest

from ops.load.replies import Said

HEADERS = {
    "x-router-model": "demo-large",
    "x-router-strategy": "smart",
    "x-router-attempts": "2",
    "x-router-reason": "mean 0.9 wanted; demo 0.50+-0.1 for $1, then demo-large 0.97+-0.02 for $2",
}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode()


def piece(**delta: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": delta}])


def test_headers_tell_who_answers_and_what_was_predicted() -> None:
    said = Said()
    said.headers(HEADERS)
    assert (said.model, said.strategy, said.attempts) == ("demo-large", "smart", 2)
    assert said.quality == 0.97
    said.headers({})
    assert said.quality is None


def test_a_whole_answer_is_read() -> None:
    said = Said()
    said.headers({**HEADERS, "x-router-cost": "1.5e-05"})
    answer = {
        "model": "demo",
        "choices": [{}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    said.whole(200, json.dumps(answer).encode())
    assert said.done
    assert (said.prompt_tokens, said.completion_tokens, said.cost) == (3, 4, 1.5e-05)
    assert said.error is None


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (429, b'{"error": {"code": "rate_limited", "type": "x"}}', "rate_limited"),
        (400, b'{"error": {"code": null, "type": "bad"}}', "bad"),
        (500, b'{"error": "no"}', "http_500"),
        (503, b"busy", "http_503"),
        (200, b"busy", "broken_answer"),
        (200, b'{"model": "demo"}', "broken_answer"),
        (200, b"[]", "broken_answer"),
    ],
)
def test_what_is_no_answer_is_an_error(status: int, content: bytes, error: str) -> None:
    said = Said()
    said.whole(status, content)
    assert (said.error, said.done) == (error, False)


@pytest.mark.parametrize(
    ("line", "token"),
    [
        (piece(role="assistant", content=""), False),
        (piece(content="a"), True),
        (piece(reasoning_content="a"), True),
        (piece(tool_calls=[{"index": 0}]), True),
        (event(choices=[]), False),
        (b": comment", False),
        (b"", False),
        (b"event: x", False),
    ],
)
def test_the_first_piece_is_noticed(line: bytes, token: bool) -> None:
    assert Said().event(line, first=True) is token


def test_the_end_of_a_stream_is_read() -> None:
    said = Said()
    said.headers({"x-router-model": "demo"})
    said.event(piece(content="a"), first=True)
    # As a server that has `usage` in every event writes them.
    said.event(event(choices=[{"delta": {"content": "b"}}], usage=None), first=False)
    said.event(event(choices=[], router={"model": "b", "attempts": 3, "cost": 0.5}), first=False)
    said.event(event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2}), first=False)
    assert not said.done
    said.event(b"data: [DONE]", first=False)
    assert said.done
    assert (said.model, said.attempts, said.cost) == ("b", 3, 0.5)
    assert (said.prompt_tokens, said.completion_tokens) == (1, 2)


def test_text_about_errors_is_no_error() -> None:
    said = Said()
    said.event(piece(content='"error": {"code": 1}, "usage": {}'), first=False)
    assert said.error is None


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (event(error={"code": "out_of_memory"}), "out_of_memory"),
        (event(error={"message": "?"}), "broken_stream"),
        (b'data: {"error": ', "broken_stream"),
        (b"data: []", None),
    ],
)
def test_an_error_in_mid_stream_is_read(line: bytes, error: str | None) -> None:
    said = Said()
    said.event(line, first=False)
    assert said.error == error
