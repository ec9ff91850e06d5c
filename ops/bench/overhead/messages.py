"""What is asked and what must come back: the requests, and the only right answer to each."""

import json
import random
import re
from dataclasses import dataclass
from typing import Any

PATH = "/v1/chat/completions"
END = b"data: [DONE]\n\n"
CANDIDATES = "endpoint", "other"  # the models of a request that names none
_PROMPT_TOKENS = 12
_WORDS = (
    "what is the sum of two large numbers and why do people write about their country in a small "
    "book when water falls from high mountains into green rivers that carry old stones to the sea"
).split()

# Servers on the way may write JSON with other spaces, and put several tokens into one event.
_CONTENT = re.compile(rb'"content":\s*"([^"]*)"')
_USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')
_FINISH = re.compile(rb'"finish_reason":\s*"stop"')


@dataclass(frozen=True)
class Ask:
    """What one request asks the upstream for.

    Attributes:
        tokens: of the answer.
        delay_s: how long the upstream waits before it begins.
        stream: whether the answer is streamed.
        strategy: by which one of two models is chosen; None where the caller names the model.
        new: whether each request has a text of its own, of 30 words and more.
    """

    tokens: int = 16
    delay_s: float = 0.0
    stream: bool = False
    strategy: str | None = None
    new: bool = False

    def body(self, model: str) -> bytes:
        """The request's JSON. The upstream reads the rest of the wish in its message."""
        fields: dict[str, object] = {
            "model": model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": self._wish()},
            ],
        }
        if self.strategy is not None:
            fields |= {"models": CANDIDATES, "router": {"strategy": self.strategy}}
        if self.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(fields).encode()

    def _wish(self) -> str:
        wish = f"tokens={self.tokens} delay={self.delay_s:g}."
        return f"{wish} {new_text()}" if self.new else wish

    def answered_by(self, body: bytes) -> bool:
        """Whether a response's body is the whole answer: each token once and in its place."""
        contents = _CONTENT.findall(body)
        usage = _USAGE.findall(body)
        return (
            b"".join(contents) == text(self.tokens)
            and len(_FINISH.findall(body)) == 1
            and usage[-1:] == [b"%d" % self.tokens]
            and body.endswith(END) == self.stream
        )


_WISH = re.compile(rb"tokens=(\d+) delay=([0-9.]+)\.")
_STREAM = re.compile(rb'"stream":\s*true')


def asked(body: bytes) -> Ask:
    """What a request that reached the upstream asks for.

    Raises:
        ValueError: its message was changed on the way.
    """
    if (wish := _WISH.search(body)) is None:
        raise ValueError(f"no wish in {body!r}")
    return Ask(int(wish[1]), float(wish[2]), _STREAM.search(body) is not None)


def new_text() -> str:
    """30 words, as good as never said before."""
    return " ".join(random.choices(_WORDS, k=30))


def token(index: int) -> str:
    """A token of an answer, different from all others of it."""
    return f" word{index}" if index else "word0"


def text(tokens: int) -> bytes:
    """The text of an answer."""
    return "".join(map(token, range(tokens))).encode()


def whole(tokens: int) -> bytes:
    """The upstream's answer, whole."""
    message = {"role": "assistant", "content": text(tokens).decode()}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return json.dumps(_object("chat.completion", [choice], tokens)).encode()


def events(tokens: int) -> list[bytes]:
    """The upstream's answer as the events of a stream: the role, the tokens, the end, the usage."""
    deltas: list[dict[str, str]] = [
        {"role": "assistant", "content": ""},
        *({"content": token(index)} for index in range(tokens)),
    ]
    choices: list[dict[str, Any]] = [
        *({"index": 0, "delta": delta, "finish_reason": None} for delta in deltas),
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    kind = "chat.completion.chunk"
    objects = [*(_object(kind, [choice]) for choice in choices), _object(kind, [], tokens)]
    return [*(b"data: " + json.dumps(one).encode() + b"\n\n" for one in objects), END]


def _object(kind: str, choices: list[dict[str, Any]], tokens: int | None = None) -> object:
    head = {"id": "chatcmpl-1", "object": kind, "created": 1700000000, "model": "bench"}
    if tokens is None:
        return {**head, "choices": choices}
    counts = {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": tokens}
    usage = {**counts, "total_tokens": _PROMPT_TOKENS + tokens}
    return {**head, "choices": choices, "usage": usage}
