"""What is promised of a request whose model fails; each promise is a function of what was seen."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ops.bench.caller import Reply
from ops.bench.fault_server import OTHER_TEXT, TEXT, TOKENS, Attempt
from ops.bench.faults.application import PRICES, Times

CUT = 40  # tokens
SENT = " ".join(TEXT.split()[:CUT])


@dataclass(frozen=True)
class Seen:
    """What caller and provider saw of one request, sent at `began` by `time.monotonic`."""

    reply: Reply
    attempts: Sequence[Attempt]
    began: float
    times: Times
    kind: str

    @property
    def asked(self) -> list[str]:
        """The models that the provider was asked for."""
        return [attempt.model for attempt in self.attempts]

    @property
    def at(self) -> list[float]:
        """Seconds from the request to each attempt."""
        return [attempt.at - self.began for attempt in self.attempts]

    @property
    def gaps(self) -> list[float]:
        """Seconds between consecutive attempts."""
        return [later - earlier for earlier, later in pairwise(self.at)]


# What is promised, in words, and whether it was kept.
Checks = Iterator[tuple[str, bool]]
Promise = Callable[[Seen], Checks]


def answered(seen: Seen, text: str = TEXT) -> Checks:
    yield "one complete answer", seen.reply.is_answer
    yield "the whole text and nothing else", seen.reply.text == text
    yield "usage reported", seen.reply.usage is not None
    yield "every attempt counted", seen.reply.attempts == len(seen.asked)


def _refused(seen: Seen, status: int, code: str) -> Checks:
    yield f"{status} {code}", (seen.reply.status, seen.reply.code) == (status, code)
    yield "only an error", seen.reply.is_error and not seen.reply.models


def _broken_off(seen: Seen, code: str) -> Checks:
    yield f"{code} as the last event of the stream", seen.reply.is_error and seen.reply.code == code


def asked_in_order(*models: str) -> Promise:
    def promise(seen: Seen) -> Checks:
        yield f"attempts: {', '.join(models)}", seen.asked == list(models)

    return promise


def all_of(*promises: Promise) -> Promise:
    def promise(seen: Seen) -> Checks:
        for each in promises:
            yield from each(seen)

    return promise


def honours_retry_after(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "the same model, twice", seen.asked == ["first"] * 2
    wanted = seen.times.retry_after
    yield "not before Retry-After", bool(seen.gaps) and 0.9 * wanted <= seen.gaps[0]
    yield "soon after Retry-After", bool(seen.gaps) and seen.gaps[0] <= wanted + 1


def falls_back_immediately(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "one attempt each", seen.asked == ["first", "small"]
    yield "immediately", bool(seen.gaps) and seen.gaps[0] < 0.5


def backs_off(seen: Seen) -> Checks:
    yield from _refused(seen, 429, "rate_limit_exceeded")
    yield "the same model again", set(seen.asked) == {"first"} and len(seen.asked) > 1
    yield "at most 6 attempts", len(seen.asked) <= 6
    yield "at most 4 of them within 3 s", sum(at < 3 for at in seen.at) <= 4
    yield "with pauses", all(gap >= 0.2 for gap in seen.gaps)


def gives_up(seen: Seen) -> Checks:
    yield from _refused(seen, 502, "provider_error")
    yield "the provider's message", "no capacity" in str(seen.reply.error)
    yield "within the retry budget", seen.asked == ["first"] * 3


def abandons_a_silent_model(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "one attempt each", seen.asked == ["first", "small"]
    yield "within 1.5 times the limit", seen.reply.seconds < 1.5 * seen.times.first_token


def waits_without_fallback(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "one attempt", seen.asked == ["first"]


def times_out(seen: Seen) -> Checks:
    yield from _refused(seen, 504, "timeout")
    yield "one attempt", seen.asked == ["first"]
    yield "within 1.5 times the limit", seen.reply.seconds < 1.5 * seen.times.silence


def is_continued(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "one attempt each", seen.asked == ["first", "small"]
    yield from _reports_the_rescue(seen, "continued")
    last = seen.attempts[-1].body["messages"][-1]
    yield "asked to continue the text", last == {"role": "assistant", "content": SENT}
    yield "usage of the whole answer", _tokens(seen) == TOKENS
    shares = [share["completion_tokens"] for share in seen.reply.router["usage"]]
    yield "each model's share of it", shares == [None, TOKENS - CUT]


def _reports_the_rescue(seen: Seen, mode: str) -> Checks:
    reported = [(one["from"], one["characters"], one["mode"]) for one in seen.reply.rescued]
    yield "the rescue reported", reported == [(f"first-{seen.kind}", len(SENT), mode)]
    yield "every attempt counted", seen.reply.attempts == len(seen.asked)


def _tokens(seen: Seen) -> int:
    return (seen.reply.usage or {}).get("completion_tokens", -1)


def detects_the_stall(seen: Seen) -> Checks:
    yield from is_continued(seen)
    yield "within 1.5 times the limit", seen.reply.seconds < 1.5 * seen.times.silence


def is_retried_without_a_trace(seen: Seen) -> Checks:
    yield "one complete answer", seen.reply.is_answer
    yield "the whole text and nothing else", seen.reply.text == TEXT
    yield "the same model, twice", seen.asked == ["first"] * 2
    yield "every attempt counted", seen.reply.attempts == len(seen.asked)


def takes_over(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "the fallback's answer", seen.reply.model == "small"
    yield "the whole answer billed", _tokens(seen) == TOKENS


def skips_garbage(seen: Seen) -> Checks:
    # The backend may skip the chunk, or the answer may be rescued.
    yield from answered(seen)


def ends_immediately(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "one attempt", seen.asked == ["first"]
    yield "the whole answer billed", _tokens(seen) == TOKENS
    yield "immediately", seen.reply.seconds < 2


def uses_the_larger_window(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "not the models with the same or a smaller window", seen.asked == ["first", "large"]


def reports_too_long(seen: Seen) -> Checks:
    yield from _refused(seen, 400, "context_length_exceeded")
    yield "one attempt", seen.asked == ["first"]


def reports_the_filter(seen: Seen) -> Checks:
    yield from _refused(seen, 400, "content_filter")
    yield "the provider's reason", "house rules" in str(seen.reply.error)
    yield "one attempt", seen.asked == ["first"]


def is_restarted(seen: Seen) -> Checks:
    yield from answered(seen, f"{SENT}\n\n{OTHER_TEXT}")
    yield from _reports_the_rescue(seen, "restarted")
    yield "asked for the rest, then for everything", seen.asked == ["first", "small", "small"]


def ends_with_an_error(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "the text so far kept", seen.reply.text == SENT


def never_splices_tool_calls(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "no model asked to continue", seen.asked == ["first"]


def never_splices_json(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "no text of another model", "other" not in seen.reply.text


def bills_the_fallback(seen: Seen) -> Checks:
    yield from takes_over(seen)
    yield "failed attempts counted", seen.reply.attempts == len(seen.asked) == 3
    yield (
        "the fallback's price",
        seen.reply.cost is not None and abs(seen.reply.cost - _cost(seen)) < 1e-9,
    )


def _cost(seen: Seen) -> float:
    usage = seen.reply.usage or {}
    tokens = usage.get("prompt_tokens", 0) + 10 * usage.get("completion_tokens", 0)
    return PRICES[seen.reply.model.partition("-")[0]] * tokens
