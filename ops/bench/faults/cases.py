"""The cases: which model fails how, who may answer instead, and what is promised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.bench.faults import promises
from ops.bench.faults.promises import CUT, Promise, answered, in_turn, together

_TOOL = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
_STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
_CALLS = {**_STREAM, "tools": [_TOOL]}
_JSON = {**_STREAM, "response_format": {"type": "json_object"}}


@dataclass(frozen=True)
class Case:
    """A request whose model breaks.

    Attributes:
        row: of the issue's table.
        name: of the case.
        fault: what the model does that is asked; the names within braces are those of `Times`.
        promise: what is seen.
        fallbacks: what those do that are asked after it; None: it alone may answer.
        asked: fields of the request beyond model and messages.
    """

    row: int
    name: str
    fault: str
    promise: Promise
    fallbacks: str | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case(1, "429 once, alone", "rate-limited-once={retry_after}", promises.waits_as_told),
    Case(1, "429 once", "rate-limited-once={retry_after}", promises.falls_back_at_once, "healthy"),
    Case(2, "429 for ever, alone", "rate-limited", promises.backs_off),
    Case(2, "429 for ever", "rate-limited", promises.falls_back_at_once, "healthy"),
    Case(3, "500 once", "failing-once", together(answered, in_turn("first", "first"))),
    Case(4, "503 for ever", "unavailable", promises.takes_over, "healthy"),
    Case(4, "503 for ever, alone", "unavailable", promises.gives_up),
    Case(5, "reset once", "reset-once", together(answered, in_turn("first", "first"))),
    Case(6, "never answered", "silent", promises.leaves_the_silent, "healthy"),
    Case(6, "never answered, alone", "silent", promises.times_out),
    Case(7, "late", "late={late}", promises.leaves_the_silent, "healthy", _STREAM),
    Case(7, "late, alone", "late={late}", promises.is_patient, None, _STREAM),
    Case(8, "cut", f"cut={CUT}", promises.goes_on, "healthy", _STREAM),
    Case(8, "cut once, alone", f"cut-once={CUT}", promises.is_whole_again, None, _STREAM),
    Case(8, "cut, asked for whole", f"cut={CUT}", promises.takes_over, "healthy"),
    Case(8, "cut in a tool call", f"cut={CUT}", promises.never_stitches_calls, "healthy", _CALLS),
    Case(8, "cut in JSON", f"cut={CUT}", promises.never_stitches_json, "other", _JSON),
    Case(9, "stalled", f"stalled={CUT}", promises.finds_the_stall, "healthy", _STREAM),
    Case(
        10, "malformed chunk", f"malformed={CUT}", promises.leaves_garbage_out, "healthy", _STREAM
    ),
    Case(11, "no [DONE]", "no-done", promises.ends_at_once, None, _STREAM),
    Case(12, "too long", "too-long", promises.takes_the_larger, "healthy"),
    Case(12, "too long, alone", "too-long", promises.is_too_long),
    Case(13, "filtered", "filtered", promises.is_filtered, "healthy"),
    Case(14, "cut, no prefill", f"cut={CUT}", promises.starts_anew, "no-prefill", _STREAM),
    Case(14, "cut, all refused", f"cut={CUT}", promises.names_the_fault, "refusing", _STREAM),
    Case(16, "billed", "unavailable", promises.bills_the_fallback, "healthy"),
    Case(16, "billed, streamed", "unavailable", promises.bills_the_fallback, "healthy", _STREAM),
)
