"""The cases: how the model fails, which fallbacks there are, and what is promised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.bench.faults import promises
from ops.bench.faults.promises import CUT, Promise, all_of, answered, asked_in_order

_TOOL = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
_STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
_CALLS = {**_STREAM, "tools": [_TOOL]}
_JSON = {**_STREAM, "response_format": {"type": "json_object"}}


@dataclass(frozen=True)
class Case:
    """A request whose model fails.

    Attributes:
        row: groups the cases by kind of fault in the table.
        name: the case's name.
        fault: the model's fault; names in braces are fields of `Times`.
        promise: what must be seen.
        fallbacks: the fallbacks' fault; None if the request allows no fallback.
        fields: of the request, besides model and messages.
    """

    row: int
    name: str
    fault: str
    promise: Promise
    fallbacks: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case(1, "429 once, alone", "rate-limited-once={retry_after}", promises.honours_retry_after),
    Case(
        1, "429 once", "rate-limited-once={retry_after}", promises.falls_back_immediately, "healthy"
    ),
    Case(2, "429 forever, alone", "rate-limited", promises.backs_off),
    Case(2, "429 forever", "rate-limited", promises.falls_back_immediately, "healthy"),
    Case(3, "500 once", "failing-once", all_of(answered, asked_in_order("first", "first"))),
    Case(4, "503 forever", "unavailable", promises.takes_over, "healthy"),
    Case(4, "503 forever, alone", "unavailable", promises.gives_up),
    Case(5, "reset once", "reset-once", all_of(answered, asked_in_order("first", "first"))),
    Case(6, "never answered", "silent", promises.abandons_a_silent_model, "healthy"),
    Case(6, "never answered, alone", "silent", promises.times_out),
    Case(7, "late", "late={late}", promises.abandons_a_silent_model, "healthy", _STREAM),
    Case(7, "late, alone", "late={late}", promises.waits_without_fallback, None, _STREAM),
    Case(8, "cut", f"cut={CUT}", promises.is_continued, "healthy", _STREAM),
    Case(
        8, "cut once, alone", f"cut-once={CUT}", promises.is_retried_without_a_trace, None, _STREAM
    ),
    Case(8, "cut, asked for whole", f"cut={CUT}", promises.takes_over, "healthy"),
    Case(
        8, "cut in a tool call", f"cut={CUT}", promises.never_splices_tool_calls, "healthy", _CALLS
    ),
    Case(8, "cut in JSON", f"cut={CUT}", promises.never_splices_json, "other", _JSON),
    Case(9, "stalled", f"stalled={CUT}", promises.detects_the_stall, "healthy", _STREAM),
    Case(10, "malformed chunk", f"malformed={CUT}", promises.skips_garbage, "healthy", _STREAM),
    Case(11, "no [DONE]", "no-done", promises.ends_immediately, None, _STREAM),
    Case(12, "too long", "too-long", promises.uses_the_larger_window, "healthy"),
    Case(12, "too long, alone", "too-long", promises.reports_too_long),
    Case(13, "filtered", "filtered", promises.reports_the_filter, "healthy"),
    Case(14, "cut, no prefill", f"cut={CUT}", promises.is_restarted, "no-prefill", _STREAM),
    Case(14, "cut, all refused", f"cut={CUT}", promises.ends_with_an_error, "refusing", _STREAM),
    Case(16, "billed", "unavailable", promises.bills_the_fallback, "healthy"),
    Case(16, "billed, streamed", "unavailable", promises.bills_the_fallback, "healthy", _STREAM),
)
