"""Promise: `make run` shows a line for each request, at most 20 a second, then how many more."""

import io
from typing import Any

import pytest

from ops.local.console import Console
from ops.local.request_lines import Limit, request_line

CHAT = {"method": "POST", "path": "/v1/chat/completions", "status": 200, "whole": True}
ANSWERED = {**CHAT, "asked": "auto", "model": "demo-small", "attempts": 1, "cost": 3e-7}


@pytest.mark.parametrize(
    ("access", "line"),
    [
        (
            {**ANSWERED, "seconds": 0.012, "quality": 0.98, "wanted": 0.96},
            "auto → demo-small  $3e-07  12 ms  .98 of .96 wanted",
        ),
        ({**ANSWERED, "asked": "demo-small", "seconds": 1.25}, "demo-small  $3e-07  1.2 s"),
        (
            {**ANSWERED, "attempts": 3, "cost": None, "seconds": 0.5},
            "auto → demo-small  500 ms  3 attempts",
        ),
        (
            {**ANSWERED, "whole": False, "cost": None, "seconds": 0.5},
            "auto → demo-small  the caller left  500 ms",
        ),
        (
            {
                **CHAT,
                "status": 400,
                "asked": "auto",
                "error": "unsupported_parameter",
                "param": "top_k",
                "seconds": 0.003,
            },
            "auto ✗ 400 unsupported_parameter top_k  3 ms",
        ),
        # A stream that broke off: its status was sent before.
        (
            {**ANSWERED, "cost": None, "error": "provider_error", "seconds": 2},
            "auto → demo-small ✗ provider_error  2.0 s",
        ),
        ({**CHAT, "path": "/v1/models", "method": "GET", "seconds": 0.001}, "GET /v1/models  1 ms"),
    ],
)
def test_a_request_is_one_line(access: dict[str, Any], line: str) -> None:
    assert request_line(access, Console(io.StringIO())) == line


def test_of_many_requests_the_rest_is_counted() -> None:
    limit = Limit(20)
    first = [line for _ in range(500) for line in limit.pass_on("line", 7.0)]
    assert first == ["line"] * 20
    assert limit.pass_on(None, 7.9) == []
    assert limit.pass_on(None, 8.0) == ["… and 480 more requests"]
    assert limit.pass_on("line", 8.1) == ["line"]
    assert limit.pass_on(None, 9.0) == []
