"""What callers and providers see when providers fail: the application before the fault server.

    python -m ops.bench.faults [--out FOLDER]

Each case is one request to the application, as `make run` serves it, whose model breaks in one way
at its provider; `CASES` says how, and what is promised. Each is asked of both kinds of backend that
call a provider. An outage under steady traffic comes last. The table says what the caller got, and
when the provider was asked, as it logged it. Ends with one line of JSON.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from ops.bench.application import running
from ops.bench.caller import Reply, ask
from ops.bench.fault_server import OTHER_TEXT, TEXT, TOKENS, Attempt, FaultServer, serving

# The openai library, and LiteLLM.
KINDS = ("vllm", "openai")
# USD for a token of the prompt; one of the answer costs ten times that.
PRICES = {"first": 1e-6, "small": 2e-6, "large": 4e-6}
# LiteLLM wants a key: the environment variable of the replicas that holds it.
KEY_VARIABLE = "ENGINE_KEY"

_MESSAGES = [{"role": "user", "content": "Count."}]
_CUT = 40  # tokens
_SENT = " ".join(TEXT.split()[:_CUT])
_TOOL = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
_LONGEST_S = 120.0
_GONE_S = 1.0  # after which a provider works for nobody who has left


@dataclass(frozen=True)
class Times:
    """Seconds: `retry_after` that a provider wants, `first_token` that a model has where another is
    left, `late` that one takes, `silence` that is too long, `down` of an outage, `circuit` between
    two probes."""

    retry_after: float = 2.0
    first_token: float = 10.0
    late: float = 20.0
    silence: float = 30.0
    down: float = 60.0
    circuit: float = 10.0


def config(provider: str, times: Times) -> dict[str, Any]:
    """The application's: a model of each kind, and two that either falls back to. Of these one has
    a smaller context window and one a larger one."""

    def model(name: str, window: int) -> dict[str, Any]:
        price = PRICES[name.partition("-")[0]]
        return {
            "name": name,
            "backend": "vllm",
            "hostname": provider,
            "context_window": window,
            "cost_per_input_token": price,
            "cost_per_output_token": 10 * price,
            "timeout": times.silence,
            "first_token_timeout": times.first_token,
            "circuit": {"seconds": times.circuit},
        }

    hosted = {"hostname": f"{provider}/v1", "api_key": f"${{{KEY_VARIABLE}}}"}
    beside: dict[str, dict[str, Any]] = {"vllm": {}, "openai": hosted}
    first = [
        {
            **model(f"first-{kind}", 1000),
            "backend": kind,
            "model": "first",
            "fallbacks": ["small", "large"],
            **beside[kind],
        }
        for kind in KINDS
    ]
    # One router: what a model did last is known to each router alone.
    one = {"min_replicas": 1, "max_replicas": 1}
    return {
        "llms": {"models": [*first, model("small", 500), model("large", 4000)]},
        "server": {"autoscaling": one},
    }


# --- what is promised ---


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


def _answered(seen: Seen, text: str = TEXT) -> Checks:
    yield "one finished answer", seen.reply.is_answer
    yield "all of it and nothing else", seen.reply.text == text
    yield "its usage", seen.reply.usage is not None
    yield "every attempt counted", seen.reply.attempts == len(seen.asked)


def _refused(seen: Seen, status: int, code: str) -> Checks:
    yield f"{status} {code}", (seen.reply.status, seen.reply.code) == (status, code)
    yield "an error and nothing else", seen.reply.is_error and not seen.reply.models


def _broken_off(seen: Seen, code: str) -> Checks:
    yield f"{code} in the stream, as its end", seen.reply.is_error and seen.reply.code == code


def _in_turn(*models: str) -> Promise:
    def promise(seen: Seen) -> Checks:
        yield f"asked: {', '.join(models)}", seen.asked == list(models)

    return promise


def _together(*promises: Promise) -> Promise:
    def promise(seen: Seen) -> Checks:
        for each in promises:
            yield from each(seen)

    return promise


def _waits_as_told(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "the same model, twice", seen.asked == ["first"] * 2
    wanted = seen.times.retry_after
    yield "after what Retry-After says", bool(seen.gaps) and 0.9 * wanted <= seen.gaps[0]
    yield "soon after it", bool(seen.gaps) and seen.gaps[0] <= wanted + 1


def _falls_back_at_once(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "each asked once", seen.asked == ["first", "small"]
    yield "at once", bool(seen.gaps) and seen.gaps[0] < 0.5


def _backs_off(seen: Seen) -> Checks:
    yield from _refused(seen, 429, "rate_limit_exceeded")
    yield "the same model, again", set(seen.asked) == {"first"} and len(seen.asked) > 1
    yield "6 attempts at most", len(seen.asked) <= 6
    yield "4 of them in 3 s at most", sum(at < 3 for at in seen.at) <= 4
    yield "with pauses", all(gap >= 0.2 for gap in seen.gaps)


def _gives_up(seen: Seen) -> Checks:
    yield from _refused(seen, 502, "provider_error")
    yield "what the provider said", "no capacity" in str(seen.reply.error)
    yield "within the budget of retries", seen.asked == ["first"] * 3


def _leaves_the_silent(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "each asked once", seen.asked == ["first", "small"]
    yield "in half as long again as the limit", seen.reply.seconds < 1.5 * seen.times.first_token


def _is_patient(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "asked once", seen.asked == ["first"]


def _times_out(seen: Seen) -> Checks:
    yield from _refused(seen, 504, "timeout")
    yield "asked once", seen.asked == ["first"]
    yield "in half as long again as the limit", seen.reply.seconds < 1.5 * seen.times.silence


def _goes_on(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "each asked once", seen.asked == ["first", "small"]
    yield from _says_so(seen, "continued")
    last = seen.attempts[-1].body["messages"][-1]
    yield "asked for what was missing", last == {"role": "assistant", "content": _SENT}
    yield "the usage of the whole", _tokens(seen) == TOKENS
    told = [share["completion_tokens"] for share in seen.reply.router["usage"]]
    yield "and each model's share", told == [None, TOKENS - _CUT]


def _says_so(seen: Seen, mode: str) -> Checks:
    said = [(one["from"], one["characters"], one["mode"]) for one in seen.reply.rescued]
    yield "and says so", said == [(f"first-{seen.kind}", len(_SENT), mode)]
    yield from _counts_attempts(seen)


def _counts_attempts(seen: Seen) -> Checks:
    yield "an attempt for each time that it was asked", seen.reply.attempts == len(seen.asked)


def _tokens(seen: Seen) -> int:
    return (seen.reply.usage or {}).get("completion_tokens", -1)


def _finds_the_stall(seen: Seen) -> Checks:
    yield from _goes_on(seen)
    yield "in half as long again as the limit", seen.reply.seconds < 1.5 * seen.times.silence


def _is_whole_again(seen: Seen) -> Checks:
    yield "one finished answer", seen.reply.is_answer
    yield "all of it and nothing else", seen.reply.text == TEXT
    yield "the same model, twice", seen.asked == ["first"] * 2
    yield from _counts_attempts(seen)


def _takes_over(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "the fallback's", seen.reply.model == "small"
    yield "billed for all of it", _tokens(seen) == TOKENS


def _leaves_garbage_out(seen: Seen) -> Checks:
    # A backend may pass over it, or the answer may be rescued.
    yield from _answered(seen)


def _ends_at_once(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "asked once", seen.asked == ["first"]
    yield "billed for all of it", _tokens(seen) == TOKENS
    yield "at once", seen.reply.seconds < 2


def _takes_the_larger(seen: Seen) -> Checks:
    yield from _answered(seen)
    yield "not those of the same or a smaller window", seen.asked == ["first", "large"]


def _is_too_long(seen: Seen) -> Checks:
    yield from _refused(seen, 400, "context_length_exceeded")
    yield "asked once", seen.asked == ["first"]


def _is_filtered(seen: Seen) -> Checks:
    yield from _refused(seen, 400, "content_filter")
    yield "the provider's reason", "house rules" in str(seen.reply.error)
    yield "asked once", seen.asked == ["first"]


def _starts_anew(seen: Seen) -> Checks:
    yield from _answered(seen, f"{_SENT}\n\n{OTHER_TEXT}")
    yield from _says_so(seen, "restarted")
    yield "asked for the rest, then for all", seen.asked == ["first", "small", "small"]


def _names_the_fault(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "after what was sent", seen.reply.text == _SENT


def _never_stitches_calls(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "nobody asked to go on", seen.asked == ["first"]


def _never_stitches_json(seen: Seen) -> Checks:
    yield from _broken_off(seen, "provider_error")
    yield "nothing of another", "other" not in seen.reply.text


def _bills_the_fallback(seen: Seen) -> Checks:
    yield from _takes_over(seen)
    yield "the failed ones counted", seen.reply.attempts == len(seen.asked) == 3
    yield "its price", seen.reply.cost is not None and abs(seen.reply.cost - _cost(seen)) < 1e-9


def _cost(seen: Seen) -> float:
    usage = seen.reply.usage or {}
    tokens = usage.get("prompt_tokens", 0) + 10 * usage.get("completion_tokens", 0)
    return PRICES[seen.reply.model.partition("-")[0]] * tokens


_STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
_CALLS = {**_STREAM, "tools": [_TOOL]}
_JSON = {**_STREAM, "response_format": {"type": "json_object"}}

CASES = (
    Case(1, "429 once, alone", "rate-limited-once={retry_after}", _waits_as_told),
    Case(1, "429 once", "rate-limited-once={retry_after}", _falls_back_at_once, "healthy"),
    Case(2, "429 for ever, alone", "rate-limited", _backs_off),
    Case(2, "429 for ever", "rate-limited", _falls_back_at_once, "healthy"),
    Case(3, "500 once", "failing-once", _together(_answered, _in_turn("first", "first"))),
    Case(4, "503 for ever", "unavailable", _takes_over, "healthy"),
    Case(4, "503 for ever, alone", "unavailable", _gives_up),
    Case(5, "reset once", "reset-once", _together(_answered, _in_turn("first", "first"))),
    Case(6, "never answered", "silent", _leaves_the_silent, "healthy"),
    Case(6, "never answered, alone", "silent", _times_out),
    Case(7, "late", "late={late}", _leaves_the_silent, "healthy", _STREAM),
    Case(7, "late, alone", "late={late}", _is_patient, None, _STREAM),
    Case(8, "cut", f"cut={_CUT}", _goes_on, "healthy", _STREAM),
    Case(8, "cut once, alone", f"cut-once={_CUT}", _is_whole_again, None, _STREAM),
    Case(8, "cut, asked for whole", f"cut={_CUT}", _takes_over, "healthy"),
    Case(8, "cut in a tool call", f"cut={_CUT}", _never_stitches_calls, "healthy", _CALLS),
    Case(8, "cut in JSON", f"cut={_CUT}", _never_stitches_json, "other", _JSON),
    Case(9, "stalled", f"stalled={_CUT}", _finds_the_stall, "healthy", _STREAM),
    Case(10, "malformed chunk", f"malformed={_CUT}", _leaves_garbage_out, "healthy", _STREAM),
    Case(11, "no [DONE]", "no-done", _ends_at_once, None, _STREAM),
    Case(12, "too long", "too-long", _takes_the_larger, "healthy"),
    Case(12, "too long, alone", "too-long", _is_too_long),
    Case(13, "filtered", "filtered", _is_filtered, "healthy"),
    Case(14, "cut, no prefill", f"cut={_CUT}", _starts_anew, "no-prefill", _STREAM),
    Case(14, "cut, all refused", f"cut={_CUT}", _names_the_fault, "refusing", _STREAM),
    Case(16, "billed", "unavailable", _bills_the_fallback, "healthy"),
    Case(16, "billed, streamed", "unavailable", _bills_the_fallback, "healthy", _STREAM),
)


# --- how it is seen ---


async def play(
    case: Case, kind: str, client: httpx.AsyncClient, provider: FaultServer, times: Times
) -> Seen:
    """One case, with a model that did nothing wrong before."""
    await _settle(kind, client, provider)
    fallbacks = case.fallbacks or "healthy"
    provider.plays = {
        "first": case.fault.format(**asdict(times)),
        "small": fallbacks,
        "large": fallbacks,
    }
    provider.attempts.clear()
    name = f"first-{kind}"
    # Who names a set of models gets none beside them.
    models = {"model": "auto", "models": [name]} if case.fallbacks is None else {"model": name}
    began = time.monotonic()
    reply = await ask(client, {**models, "messages": _MESSAGES, **case.asked})
    await _all_over(provider)
    return Seen(reply, list(provider.attempts), began, times, kind)


def broken(case: Case, seen: Seen) -> list[str]:
    """The promises that were not kept."""
    left = [attempt.model for attempt in seen.attempts if attempt.ended is None]
    kept = [*case.promise(seen), ("nobody works for one who has left", not left)]
    return [promise for promise, is_kept in kept if not is_kept]


async def _settle(kind: str, client: httpx.AsyncClient, provider: FaultServer) -> None:
    """Waits till the model is asked first again, as one that has not failed."""
    provider.plays = dict.fromkeys(("first", "small", "large"), "healthy")
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        reply = await ask(client, {"model": f"first-{kind}", "messages": _MESSAGES})
        if reply.is_answer and reply.attempts == 1 and reply.model == f"first-{kind}":
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"first-{kind} is not asked first: {reply}")


async def _all_over(provider: FaultServer) -> None:
    """Waits till the provider has seen who has left, but not for long."""
    deadline = time.monotonic() + _GONE_S
    while time.monotonic() < deadline:
        if all(attempt.ended is not None for attempt in provider.attempts):
            return
        await asyncio.sleep(0.01)


# --- row 15 ---


@dataclass(frozen=True)
class Outage:
    """What was seen of a model that was down under steady traffic.

    Attributes:
        replies: each with the seconds from the first attempt that failed to when it was asked for.
        attempts: at the model that was down.
        bad: replies to requests that were bad, after the outage.
        after: the reply to a good one, after them.
        times: that were configured.
        kind: of the backend.
    """

    replies: Sequence[tuple[float, Reply]]
    attempts: Sequence[Attempt]
    bad: Sequence[Reply]
    after: Reply
    times: Times
    kind: str

    @property
    def back(self) -> float | None:
        """Seconds from the recovery to the first request that the model answered."""
        back = [at for at, reply in self.replies if reply.model == f"first-{self.kind}"]
        return min(back) - self.times.down if back else None

    @property
    def tries(self) -> list[float]:
        """Seconds from the first attempt to each that failed."""
        return [one.since for one in self.attempts if one.outcome == "503"]

    def checks(self) -> Checks:
        """What is promised."""
        down = [reply for at, reply in self.replies if at + reply.seconds < self.times.down]
        yield "every request answered", all(reply.is_answer for _, reply in self.replies)
        yield "by the fallback, while down", {reply.model for reply in down} == {"small"}
        probes = self.times.down / self.times.circuit + 1
        # Some were under way when the fifth failed.
        yield "the provider left alone", len(self.tries) <= 2 * _FAILURES + probes
        yield "asked again soon", self.back is not None and self.back <= 3 * self.times.circuit
        yield "bad requests refused", {reply.status for reply in self.bad} == {400}
        yield "and nothing opened by them", self.after.model == f"first-{self.kind}"


_FAILURES = 5  # in a row that open a circuit
_REQUESTS_PER_S = 10
_BAD = 4 * _FAILURES


async def outage(
    kind: str, client: httpx.AsyncClient, provider: FaultServer, times: Times
) -> Outage:
    """Steady traffic while the model is down and till it answers again."""
    await _settle(kind, client, provider)
    provider.plays["first"] = f"down={times.down}"
    provider.attempts.clear()
    body = {"model": f"first-{kind}", "messages": _MESSAGES}
    began = time.monotonic()
    asking: list[asyncio.Task[tuple[float, Reply]]] = []
    longest = times.down + 4 * times.circuit
    while (at := time.monotonic() - began) < longest and not _is_back(asking, body["model"]):
        asking.append(asyncio.create_task(_asked_at(at, client, body)))
        await asyncio.sleep(1 / _REQUESTS_PER_S)
    replies = await asyncio.gather(*asking)
    attempts = [attempt for attempt in provider.attempts if attempt.model == "first"]
    provider.plays["first"] = "filtered"
    bad = [await ask(client, body) for _ in range(_BAD)]
    provider.plays["first"] = "healthy"
    return Outage(replies, attempts, bad, await ask(client, body), times, kind)


async def _asked_at(
    at: float, client: httpx.AsyncClient, body: Mapping[str, Any]
) -> tuple[float, Reply]:
    return at, await ask(client, body)


def _is_back(asking: Sequence["asyncio.Task[tuple[float, Reply]]"], model: object) -> bool:
    return any(task.done() and task.result()[1].model == model for task in asking)


# --- what is reported ---


def caller_saw(reply: Reply) -> str:
    """A reply in a few words."""
    said = f"{len((reply.text or reply.arguments).split())} words"
    if reply.error is not None:
        begun = f"{said}, then" if reply.models else str(reply.status)
        return f"{begun} `{reply.code}`, {reply.seconds:.1f} s"
    rescued = "".join(f", {rescue['mode']}" for rescue in reply.rescued)
    return f"{said} of {reply.model}{rescued}, {reply.seconds:.1f} s"


def provider_saw(seen: Seen) -> str:
    """Each attempt with its time and its outcome."""
    logged = zip(seen.at, seen.attempts, strict=True)
    return ", ".join(f"{at:.2f} {attempt.model} {attempt.outcome}" for at, attempt in logged)


@dataclass(frozen=True)
class Line:
    """Of the table."""

    row: int
    case: str
    backend: str
    caller_saw: str
    provider_saw: str
    broken: Sequence[str]

    def __str__(self) -> str:
        verdict = f"**{'; '.join(self.broken)}**" if self.broken else "kept"
        cells = (self.row, self.case, self.backend, self.caller_saw, self.provider_saw, verdict)
        return f"| {' | '.join(str(cell) for cell in cells)} |"


HEAD = (
    "| row | fault | backend | the caller saw | the provider saw, s | promise |\n"
    + "|---" * 6
    + "|"
)


def _line_of_outage(seen: Outage) -> Line:
    tries = ", ".join(f"{since:.1f}" for since in seen.tries)
    statuses = {reply.status for _, reply in seen.replies}
    back = "never" if seen.back is None else f"{seen.back:.1f} s after the recovery"
    return Line(
        15,
        f"down for {seen.times.down:g} s",
        seen.kind,
        f"{len(seen.replies)} requests: {statuses}; the model's own answers again: {back}",
        f"503 at {tries}",
        [promise for promise, is_kept in seen.checks() if not is_kept],
    )


async def measure(url: str, provider: FaultServer) -> list[Line]:
    """All rows, with both kinds of backend."""
    times, lines = Times(), []

    def note(line: Line) -> None:
        print(line, flush=True)
        lines.append(line)

    print(HEAD, flush=True)
    async with httpx.AsyncClient(base_url=url, timeout=_LONGEST_S, trust_env=False) as client:
        for kind in KINDS:
            for case in CASES:
                seen = await play(case, kind, client, provider, times)
                saw = caller_saw(seen.reply), provider_saw(seen)
                note(Line(case.row, case.name, kind, *saw, broken(case, seen)))
            note(_line_of_outage(await outage(kind, client, provider, times)))
    return lines


def main() -> None:
    """Runs all of it; its status says whether every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench-faults"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    key = {KEY_VARIABLE: "none"}
    with (
        serving() as provider,
        running(config(provider.url, Times()), out / "application.log", key) as url,
    ):
        lines = asyncio.run(measure(url, provider))
    (out / "table.md").write_text("\n".join([HEAD, *map(str, lines)]) + "\n")
    failed = [line for line in lines if line.broken]
    print(
        json.dumps(
            {
                "benchmark": "faults",
                "cores": os.cpu_count(),
                "times": asdict(Times()),
                "cases": len(lines),
                "kept": len(lines) - len(failed),
                "results": [asdict(line) for line in lines],
            }
        )
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
