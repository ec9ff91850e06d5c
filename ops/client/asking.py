"""Asks a running server a question: `llm-cores ask`."""

import sys
from dataclasses import dataclass
from typing import Any

import httpx

from ops.client.server import Json, connected, events_of, object_of
from ops.client.text import json_of, one_line, printable, usd

_PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Question:
    """What is asked, and of which models.

    Attributes:
        text: the user's message.
        system: the system message.
        model: a model's name, or "auto".
        models: with "auto", those that may answer; None for all.
        requirement: the quality wanted, 0 to 1; None for the server's own.
    """

    text: str
    system: str | None = None
    model: str = "auto"
    models: list[str] | None = None
    requirement: float | None = None

    def body(self) -> Json:
        """The request's body."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        body: Json = {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": self.text}],
        }
        if self.models is not None:
            body["models"] = self.models
        if self.requirement is not None:
            body["router"] = {"performance_requirement": self.requirement}
        return body


def ask(url: str, question: Question, *, why: bool, as_json: bool) -> None:
    """Prints the answer.

    Args:
        url: the server's.
        question: what to ask.
        why: then print which model answered, why and at what cost, on standard error.
        as_json: print the whole reply instead.

    Raises:
        SystemExit: there is no answer, or it broke off.
    """
    with connected(url) as client:
        if as_json:
            response = client.post(_PATH, json=question.body())
            reply = object_of(response)
            print(json_of(reply))
            said = {"cost": response.headers.get("x-router-cost"), **_part(reply, "usage")}
        else:
            body = {**question.body(), "stream": True, "stream_options": {"include_usage": True}}
            with client.stream("POST", _PATH, json=body) as response:
                said = _print(response)
        if why:
            print(*_explanation(response.headers, said), sep="\n", file=sys.stderr)


def _print(response: httpx.Response) -> Json:
    """Prints a streamed answer; returns what its last events say of it."""
    said: Json = {}
    clean = printable if sys.stdout.isatty() else str
    last = "\n"
    try:
        for event in events_of(response):
            said |= {**_part(event, "router"), **_part(event, "usage")}
            for choice in event.get("choices") or ():
                if text := clean(choice.get("delta", {}).get("content") or ""):
                    last = text  # before: Ctrl-C may come while it is printed
                    print(text, end="", flush=True)
    finally:  # also where the answer ends early: what follows begins a line
        if not last.endswith("\n"):
            print(flush=True)
    return said


def _part(reply: Json, name: str) -> Json:
    part = reply.get(name)
    return part if isinstance(part, dict) else {}


def _explanation(headers: httpx.Headers, said: Json) -> list[str]:
    """Who answered, why and at what cost: the headers know it before the answer, its end for
    certain."""
    model, cost = said.get("model") or headers.get("x-router-model"), said.get("cost")
    attempts = said.get("attempts") or headers.get("x-router-attempts")
    lines = [f"model:  {_shown(model)} ({_shown(headers.get('x-router-strategy'))})"]
    if str(attempts) != "1":
        lines[0] += f", attempts: {_shown(attempts)}"
    for rescue in said.get("rescued") or ():
        lines.append(f"rescue: {_shown(rescue.get('from'))} broke off: {_shown(rescue['error'])}")
    lines.append(f"reason: {_shown(headers.get('x-router-reason'))}")
    tokens = [said.get(name) for name in ("prompt_tokens", "completion_tokens")]
    counted = "" if None in tokens else f", {tokens[0]} tokens in, {tokens[1]} out"
    lines.append(f"cost:   {usd(None if cost is None else float(cost))}{counted}")
    return lines


def _shown(value: Any) -> str:
    return "-" if value is None else one_line(str(value))
