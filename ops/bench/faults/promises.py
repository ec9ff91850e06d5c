"""What is promised of a request whose model fails, each promise a function of what was seen."""

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
    """What caller and provider saw of one request that left at `began`, by `time.monotonic`."""

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
        """Seconds between one attempt and the next."""
        return [later - earlier for earlier, later in pairwise(self.at)]


# What is promised, in words, and whether it was kept.
Checks = Iterator[tuple[str, bool]]
Promise = Callable[[Seen], Checks]


def answered(seen: Seen, text: str = TEXT) -> Checks:
    yield "one finished answer", seen.reply.is_answer
    yield "all of it and nothing else", seen.reply.text == text
    yield "its usage", seen.reply.usage is not None
    yield "every attempt counted", seen.reply.attempts == len(seen.asked)


def _refused(seen: Seen, status: int, code: str) -> Checks:
    yield f"{status} {code}", (seen.reply.status, seen.reply.code) == (status, code)
    yield "an error and nothing else", seen.reply.is_error and not seen.reply.models


def _broken_off(seen: Seen, code: str) -> Checks:
    yield f"{code} in the stream, as its end", seen.reply.is_error and seen.reply.code == code


def in_turn(*models: str) -> Promise:
    def promise(seen: Seen) -> Checks:
        yield f"asked: {', '.join(models)}", seen.asked == list(models)

    return promise


def together(*promises: Promise) -> Promise:
    def promise(seen: Seen) -> Checks:
        for each in promises:
            yield from each(seen)

    return promise


def waits_as_told(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "the same model, twice", seen.asked == ["first"] * 2
    wanted = seen.times.retry_after
    yield "after what Retry-After says", bool(seen.gaps) and 0.9 * wanted <= seen.gaps[0]
    yield "soon after it", bool(seen.gaps) and seen.gaps[0] <= wanted + 1


def falls_back_at_once(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "each asked once", seen.asked == ["first", "small"]
    yield "at once", bool(seen.gaps) and seen.gaps[0] < 0.5


def backs_off(seen: Seen) -> Checks:
    yield from _refused(seen, 429, "rate_limit_exceeded")
    yield "the same model, again", set(seen.asked) == {"first"} and len(seen.asked) > 1
    yield "6 attempts at most", len(seen.asked) <= 6
    yield "4 of them in 3 s at most", sum(at < 3 for at in seen.at) <= 4
    yield "with pauses", all(gap >= 0.2 for gap in seen.gaps)


def gives_up(seen: Seen) -> Checks:
    yield from _refused(seen, 502, "provider_error")
    yield "what the provider said", "no capacity" in str(seen.reply.error)
    yield "within the budget of retries", seen.asked == ["first"] * 3


def leaves_the_silent(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "each asked once", seen.asked == ["first", "small"]
    yield "in half as long again as the limit", seen.reply.seconds < 1.5 * seen.times.first_token


def is_patient(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "asked once", seen.asked == ["first"]


def times_out(seen: Seen) -> Checks:
    yield from _refused(seen, 504, "timeout")
    yield "asked once", seen.asked == ["first"]
    yield "in half as long again as the limit", seen.reply.seconds < 1.5 * seen.times.silence


def goes_on(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "each asked once", seen.asked == ["first", "small"]
    yield from _says_so(seen, "continued")
    last = seen.attempts[-1].body["messages"][-1]
    yield "asked for what was missing", last == {"role": "assistant", "content": SENT}
    yield "the usage of the whole", _tokens(seen) == TOKENS
    told = [share["completion_tokens"] for share in seen.reply.router["usage"]]
    yield "and each model's share", told == [None, TOKENS - CUT]


def _says_so(seen: Seen, mode: str) -> Checks:
    said = [(one["from"], one["characters"], one["mode"]) for one in seen.reply.rescued]
    yield "and says so", said == [(f"first-{seen.kind}", len(SENT), mode)]
    yield from _counts_attempts(seen)


def _counts_attempts(seen: Seen) -> Checks:
    yield "an attempt for each time that it was asked", seen.reply.attempts == len(seen.asked)


def _tokens(seen: Seen) -> int:
    return (seen.reply.usage or {}).get("completion_tokens", -1)


def finds_the_stall(seen: Seen) -> Checks:
    yield from goes_on(seen)
    yield "in half as long again as the limit", seen.reply.seconds < 1.5 * seen.times.silence


def is_whole_again(seen: Seen) -> Checks:
    yield "one finished answer", seen.reply.is_answer
    yield "all of it and nothing else", seen.reply.text == TEXT
    yield "the same model, twice", seen.asked == ["first"] * 2
    yield from _counts_attempts(seen)


def takes_over(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "the fallback's", seen.reply.model == "small"
    yield "billed for all of it", _tokens(seen) == TOKENS


def leaves_garbage_out(seen: Seen) -> Checks:
    # A backend may pass over it, or the answer may be rescued.
    yield from answered(seen)


def ends_at_once(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "asked once", seen.asked == ["first"]
    yield "billed for all of it", _tokens(seen) == TOKENS
    yield "at once", seen.reply.seconds < 2


def takes_the_larger(seen: Seen) -> Checks:
    yield from answered(seen)
    yield "not those of the same or a smaller window", seen.asked == ["first", "large"]


def is_too_long(seen: Seen) -> Checks:
    yield from _refused(seen, 400, "context_length_exceeded")
    yield "asked once", seen.asked == ["first"]


def is_filtered(seen: Seen) -> Checks:
    yield from _refused(seen, 400, "content_filter")
    yield "the provider's reason", "house rules" in str(seen.reply.error)
    yield "asked once", seen.asked == ["first"]


def starts_anew(seen: Seen) -> Checks:
    yield from answered(seen, f"{SENT}\n\n{OTHER_TEXT}")
    yield from _says_so(seen, "restarted")
    yield "asked for the rest, then for all", seen.asked == ["first", "small", "small"]


def names_the_fault(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "after what was sent", seen.reply.text == SENT


def never_stitches_calls(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "nobody asked to go on", seen.asked == ["first"]


def never_stitches_json(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "nothing of another", "other" not in seen.reply.text


def bills_the_fallback(seen: Seen) -> Checks:
    yield from takes_over(seen)
    yield "the failed ones counted", seen.reply.attempts == len(seen.asked) == 3
    yield "its price", seen.reply.cost is not None and abs(seen.reply.cost - _cost(seen)) < 1e-9


def _cost(seen: Seen) -> float:
    usage = seen.reply.usage or {}
    tokens = usage.get("prompt_tokens", 0) + 10 * usage.get("completion_tokens", 0)
    return PRICES[seen.reply.model.partition("-")[0]] * tokens
