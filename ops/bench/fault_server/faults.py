"""The faults, by the name of the model that shows them."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

from ops.bench.fault_server.answers import OTHER_TEXT, answer, bad_request
from ops.bench.fault_server.steps import HEADERS, Attempt, Break, Refusal, Step

# Gives the steps for an attempt and the number in the model's name.
Fault = Callable[[Attempt, float], Sequence[Step]]

_FAILURE = Refusal(500, {"message": "out of order", "type": "server_error"})
_UNAVAILABLE = Refusal(503, {"message": "no capacity", "type": "server_error"})
_TOO_LONG = bad_request("The prompt is too long.", code="context_length_exceeded", param="messages")
_FILTERED = bad_request("The prompt is against the house rules.", code="content_filter")
_NO_JSON = 'data: {"choices": [{"index": 0, "delta": {"content": "garb\n\n'


def _healthy(attempt: Attempt, number: float) -> Sequence[Step]:
    return answer(attempt)


def _always(*steps: Step) -> Fault:
    return lambda attempt, number: steps


def _once(fault: Fault) -> Fault:
    """Fails the first attempt and answers the later ones."""
    return lambda attempt, number: (fault if attempt.number == 1 else _healthy)(attempt, number)


def _after_tokens(*steps: Step) -> Fault:
    """Sends a number of tokens, then plays `steps`, then sends the rest of the answer."""

    def play(attempt: Attempt, tokens: float) -> Sequence[Step]:
        events = answer(attempt)
        return [*events[: int(tokens)], *steps, *events[int(tokens) :]]

    return play


def _limited(attempt: Attempt, retry_after: float) -> Sequence[Step]:
    headers = {"retry-after": f"{retry_after:g}"} if retry_after else {}
    return [Refusal(429, {"message": "too many requests", "type": "rate_limit_error"}, headers)]


def _down(attempt: Attempt, seconds: float) -> Sequence[Step]:
    return [_UNAVAILABLE] if attempt.since < seconds else answer(attempt)


def _late(attempt: Attempt, seconds: float) -> Sequence[Step]:
    return [HEADERS, seconds, *answer(attempt)]


def _paced(attempt: Attempt, seconds: float) -> Sequence[Step]:
    return [step for event in answer(attempt) for step in (event, seconds)]


def _unfinished(attempt: Attempt, number: float) -> Sequence[Step]:
    return answer(attempt)[:-1]


def _other(attempt: Attempt, number: float) -> Sequence[Step]:
    return answer(attempt, OTHER_TEXT)


def _no_prefill(attempt: Attempt, number: float) -> Sequence[Step]:
    if attempt.body["messages"][-1]["role"] == "assistant":
        return [
            bad_request("The last message must not have the role 'assistant'.", param="messages")
        ]
    return _other(attempt, number)


# By the model's name in the request. A number after "=" is in seconds or tokens.
FAULTS: Mapping[str, Fault] = {
    "healthy": _healthy,
    "other": _other,  # a different text
    "rate-limited-once": _once(_limited),  # the number, if any, is sent as `Retry-After`
    "rate-limited": _limited,
    "failing-once": _once(_always(_FAILURE)),
    "unavailable": _always(_UNAVAILABLE),
    "down": _down,  # for a number of seconds
    "reset-once": _once(_always(Break.RESET)),
    "silent": _always(inf),
    "late": _late,  # the first token comes after that many seconds
    "paced": _paced,  # that many seconds between tokens
    "cut": _after_tokens(Break.CUT),
    "cut-once": _once(_after_tokens(Break.CUT)),
    "stalled": _after_tokens(inf),
    "malformed": _after_tokens(_NO_JSON),
    "no-done": _unfinished,
    "too-long": _always(_TOO_LONG),
    "filtered": _always(_FILTERED),
    "no-prefill": _no_prefill,  # and writes a different text
    "refusing": _always(bad_request("Not like this.")),
}
