"""Promise: `make run` prints a line a request, at most 20 a second, and counts the others."""

import io
from typing import Any

import pytest

from ops.local.console import Console
from ops.local.request_lines import RateLimit, request_line

CHAT = {"method": "POST", "path": "/v1/chat/completions", "status": 200, "whole": True}
ANSWERED = {**CHAT, "asked": "auto", "model": "demo-small", "attempts": 1, "cost": 3e-7}


@pytest.mark.parametrize(
    ("access", "line"),
    [
        (
            {**ANSWERED, "seconds": 0.012, "quality": 0.98, "wanted": 0.96},
            "auto → demo-small  $3e-07  12 ms  quality .98 (required .96)",
        ),
        ({**ANSWERED, "asked": "demo-small", "seconds": 1.25}, "demo-small  $3e-07  1.2 s"),
        (
            {**ANSWERED, "attempts": 3, "cost": None, "seconds": 0.5},
            "auto → demo-small  500 ms  3 attempts",
        ),
        (
            {**ANSWERED, "whole": False, "cost": None, "seconds": 0.5},
            "auto → demo-small  client disconnected  500 ms",
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
        # A stream that broke off after its status was sent.
        (
            {**ANSWERED, "cost": None, "error": "provider_error", "seconds": 2},
            "auto → demo-small ✗ provider_error  2.0 s",
        ),
        ({**CHAT, "path": "/v1/models", "method": "GET", "seconds": 0.001}, "GET /v1/models  1 ms"),
    ],
)
def test_a_request_is_one_line(access: dict[str, Any], line: str) -> None:
    assert request_line(access, Console(io.StringIO())) == line


def test_requests_over_the_limit_are_counted() -> None:
    limit = RateLimit(20)
    first = [line for _ in range(500) for line in limit.admit("line", 7.0)]
    assert first == ["line"] * 20
    assert limit.admit(None, 7.9) == []
    assert limit.admit(None, 8.0) == ["… and 480 more requests"]
    assert limit.admit("line", 8.1) == ["line"]
    assert limit.admit(None, 9.0) == []
